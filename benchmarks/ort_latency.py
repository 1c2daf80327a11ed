"""What the way from PyTorch to ONNX Runtime gains on a CPU: latency, size, memory, per precision.

    python benchmarks/ort_latency.py --json

A real way, but on random weights and rendered photos (speed does not depend on them): a run is trained for a
step, exported in every precision, and its graphs are timed as the runtime loads them.

- ``eager``: the adapted model in PyTorch, as ``rmatk eval`` runs it; ``eager_clip``: open_clip's own
  ``encode_image`` of plain CLIP, without adapters, normalised.
- ``fp32_over_eager`` and the like: median latency of a graph over the eager one; ``..._over_eager_clip``
  over plain CLIP's. All take turns within each round.
- ``infer_peak_mb``: peak resident memory of a fresh ``rmatk infer`` on one photo; ``eager_peak_mb``: that of
  a fresh process that loads the run in PyTorch and embeds the same photo.

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from common import PRECISIONS, export_every_precision
from safetensors.torch import save_file
from turns import timed

from rmatk.backbones.backbone import load_backbone
from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.config import TrainConfig
from rmatk.method.model import AdaptedClip
from rmatk.run import load_run, restore
from rmatk.scenes.photos import rendered_kinds, write_photos
from rmatk.training.train import train
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend

REPORT = """
import atexit, sys
from rmatk_runtime.bench.machine import resident_memory
atexit.register(lambda: print(resident_memory()[0], file=sys.stderr))
"""
EAGER = """
import sys, numpy as np, torch
from pathlib import Path
from rmatk.backbones.backbone import load_backbone
from rmatk.run import load_run, restore
from rmatk_runtime.pictures.decode import load_image
from rmatk_runtime.pictures.preprocess import preprocess
run = load_run(Path(sys.argv[1]))
model = restore(run, load_backbone(run.record.config.model, run.record.config.pretrained))
image = preprocess(load_image(Path(sys.argv[2])), run.record.preprocess)
model.encode_images(torch.from_numpy(image[None]))
"""
INFER = "from rmatk.cli import main; main()"


def make(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """A run on random weights, its bundle in every precision, and a photo."""
    import_torchvision()
    import open_clip

    torch.manual_seed(0)
    weights = folder / "weights.safetensors"
    state = open_clip.create_model(name, pretrained=None).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, weights)
    photos = write_photos(folder / "photos", kinds=rendered_kinds()[:4], train=4, test=1)
    config = TrainConfig(model=name, pretrained=str(weights), shots=2, epochs=1)
    train(config, load_backbone(name, str(weights)), photos / "train", folder / "run")
    export_every_precision(folder, golden=8)
    return folder / "run", folder / "bundle", next((photos / "test").rglob("*.jpg"))


def sides(run: Path, bundle: Path, images: np.ndarray, threads: int) -> dict[str, Callable[[], object]]:
    """What takes turns, by name: each embeds the images (N, 3, H, W) float32 once."""
    torch.set_num_threads(threads)
    loaded = load_run(run)
    config = loaded.record.config
    adapted: AdaptedClip = restore(loaded, load_backbone(config.model, config.pretrained))
    clip = load_backbone(config.model, config.pretrained).model
    tensor = torch.from_numpy(images)

    def eager_clip() -> object:
        with torch.inference_mode():
            return clip.encode_image(tensor, normalize=True)

    opened = Bundle.open(bundle)
    calls: dict[str, Callable[[], object]] = {
        "eager": lambda: adapted.encode_images(tensor),
        "eager_clip": eager_clip,
    }
    for precision in PRECISIONS:
        backend = OnnxRuntimeBackend(opened.file(opened.graph(precision).file), threads=threads)
        calls[precision] = functools.partial(backend.embed, images)
    return calls


def peak_mb(code: str, *arguments: str) -> float:
    """Peak resident MB of a fresh Python process, by its own account: ``ru_maxrss`` counts this one's too."""
    process = subprocess.run(
        [sys.executable, "-c", REPORT + code, *arguments], capture_output=True, text=True
    )
    if process.returncode != 0:
        sys.exit(f"{arguments[0]} failed: {process.stderr}")
    return round(int(process.stderr.split()[-1]) / (1 << 20), 1)


def features() -> list[str]:
    """What of the processor decides the speed of int8."""
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    return [flag for flag in flags if flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, bundle, photo = make(Path(folder), args.model)
        spec = load_run(run).record.preprocess
        shape = (args.batch, 3, spec.height, spec.width)
        images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        median = timed(sides(run, bundle, images, args.threads), args.rounds, quiet=args.json)
        ratios = {
            f"{precision}_over_{eager}": round(median[precision] / median[eager], 4)
            for precision in PRECISIONS
            for eager in ("eager", "eager_clip")
        }
        infer = {
            precision: peak_mb(INFER, "infer", str(bundle), str(photo), "--precision", precision)
            for precision in PRECISIONS
        }
        report = json.loads((bundle / "report.json").read_bytes())
        result = {
            "model": args.model,
            "batch": args.batch,
            "threads": args.threads,
            "rounds": args.rounds,
            "milliseconds": {name: round(1e3 * value, 2) for name, value in median.items()},
            **ratios,
            "bundle_mb": {
                path.name: round(path.stat().st_size / 1e6, 2) for path in sorted(bundle.iterdir())
            },
            "int8_share": report["quantisation"]["int8_share"],
            "int8_float_products": report["quantisation"]["float_products"],
            "infer_peak_mb": infer,
            "eager_peak_mb": peak_mb(EAGER, str(run), str(photo)),
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "processor": features(),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
