"""All that only a GPU can tell, in one command: builds every engine, checks parity, times everything.

    python -m tools.gpu_check -o gpu_check.json --model ViT-B-16-quickgelu --random-weights

Without a bundle one is made first: a short training on rendered photos, then an export in every precision;
engines go into the bundle. Each part stands alone: what is not there, or fails, is written down under
``not_run`` with its reason, and the rest goes on; the file is written after each part, so that a run cut
short keeps what it had. Times are wall clock around whole calls, copies included, after a warm-up;
``device_ms`` are CUDA events around TensorRT. Clocks are as they are found: on a Jetson set the power mode
and run jetson_clocks before. The CPU is timed only with --cpu.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend, DeviceTimes
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Graph
from rmatk_runtime.doctor.packages import installed_version
from rmatk_runtime.errors import RmatkError
from rmatk_runtime.files import write_atomic
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu, driver_version, list_gpus
from rmatk_runtime.parity.walk import EncoderCandidate, check_golden
from rmatk_runtime.selection import open_backend
from rmatk_runtime.tensorrt.backend import TensorRtBackend
from rmatk_runtime.tensorrt.build import build_engine
from rmatk_runtime.tensorrt.key import BatchProfile, Flavour
from rmatk_runtime.tensorrt.library import FLAVOURS, load_tensorrt
from rmatk_runtime.tensorrt.options import BuildOptions
from tools.gpu_bundle import make_bundle
from tools.gpu_report import Missing, Report, Row, Timing, lines

PACKAGES = ("numpy", "torch", "open_clip_torch", "onnxruntime", "onnxruntime-gpu", "cuda-bindings")
WARM_UP = 10  # the first call of a batch size allocates, the second captures a graph
LONGEST = 10.0  # seconds of one timing, after which fewer rounds than asked for must do
# What compilers, drivers and PyTorch, whose errors are RuntimeErrors, raise; the parts behind go on.
FAILURES = (
    RuntimeError, ImportError, OSError, LookupError, TypeError, ValueError, AttributeError, AssertionError
)  # fmt: skip


class Check:
    """Gathers rows and reasons."""

    def __init__(
        self,
        bundle: Bundle,
        batches: tuple[int, ...],
        rounds: int,
        *,
        cpu: bool = False,
        on_part: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self.bundle, self.batches, self.rounds, self.cpu = bundle, batches, rounds, cpu
        self.gpu: Gpu | None = None
        self.driver: str | None = None
        self._on_part = on_part
        self.rows: list[Row] = []
        self.missing: list[Missing] = []
        self.versions: dict[str, str] = {}

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """One part: what it raises, whatever it is, is the reason why it was not run."""
        print(what, file=sys.stderr, flush=True)
        try:
            yield
        except RmatkError as error:
            self.missing.append(Missing(what=what, reason=error.message))
        except FAILURES as error:
            words = str(error).strip().split("\n\n")[0]
            self.missing.append(Missing(what=what, reason=f"{type(error).__name__}: {words}"))
        self._on_part(self.report())

    def report(self) -> Report:
        """All that is known by now."""
        manifest = self.bundle.manifest
        return Report(
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            gpu=self.gpu,
            driver_cuda=self.driver,
            versions={**self.versions, **{name: installed_version(name) for name in PACKAGES}},
            model=f"{manifest.model.name} {manifest.model.pretrained or ''}".strip(),
            rounds=self.rounds,
            rows=self.rows,
            not_run=self.missing,
        )

    def engine(self, graph: Graph, flavour: Flavour) -> None:
        """Build an engine, check and time it."""
        gpu, trt = list_gpus()[0], load_tensorrt(flavour)
        self.versions[flavour] = trt.version
        options = BuildOptions(batch=BatchProfile(1, 8, 32))
        engine = build_engine(self.bundle, graph, trt, options, gpu=gpu)
        built = engine.sidecar
        self.backend(
            trt.title,
            graph,
            partial(TensorRtBackend.open, engine),
            build_seconds=built.seconds,
            engine_mb=round(built.size / 1e6, 2),
        )

    def backend(self, what: str, graph: Graph, open_it: Callable[[], Backend], **known: Any) -> None:
        """Two starts, parity on the golden set, then every batch size."""
        start, restart = self.start(open_it), self.start(open_it)
        before = free_memory()
        with open_it() as backend:
            name = f"{backend.name} {graph.precision}"
            stage = check_golden(self.bundle, [EncoderCandidate(name, graph.precision, backend)])[-1]
            timings = tuple(self.time(batch, backend.embed, backend) for batch in self.batches)
            after = free_memory()
        taken = None if before is None or after is None else round((before - after) / 1e6, 1)
        self.rows.append(
            Row(
                what=what,
                precision=graph.precision,
                parity=stage,
                timings=timings,
                start_ms=start,
                restart_ms=restart,
                memory_mb=taken,
                **known,
            )
        )

    def start(self, open_it: Callable[[], Backend]) -> float:
        """Milliseconds from opening to the first result."""
        images = self.images(1)
        began = time.perf_counter()
        with open_it() as backend:
            backend.embed(images)
            return round(1e3 * (time.perf_counter() - began), 1)

    def images(self, batch: int) -> Float32:
        """(N, 3, H, W) float32 random images: speed does not depend on what they show."""
        spec = self.bundle.manifest.preprocess
        shape = (batch, 3, spec.height, spec.width)
        return np.random.default_rng(batch).normal(size=shape).astype(np.float32)

    def time(self, batch: int, embed: Callable[[Float32], Any], backend: Backend | None = None) -> Timing:
        """Percentiles over whole calls, from host memory to host memory."""
        images = self.images(batch)
        for _ in range(WARM_UP):
            embed(images)
        seconds: list[float] = []
        while len(seconds) < self.rounds and sum(seconds) < LONGEST:
            start = time.perf_counter()
            embed(images)
            seconds.append(time.perf_counter() - start)
        p50, p90 = map(float, np.percentile(seconds, (50, 90)))
        times = backend.times if isinstance(backend, TensorRtBackend) else None
        return Timing(
            batch=batch,
            rounds=len(seconds),
            p50_ms=round(1e3 * p50, 4),
            p90_ms=round(1e3 * p90, 4),
            images_per_second=round(batch / p50, 1),
            device_ms=None if times is None else _rounded(times),
        )


def _rounded(times: DeviceTimes) -> dict[str, float]:
    return {key: round(value, 4) for key, value in msgspec.to_builtins(times).items()}


def free_memory() -> int | None:
    """Free bytes of the GPU, or None without one."""
    try:
        return int(Cuda.load().call("cudaMemGetInfo")[0])
    except RmatkError:
        return None


def check_torch(check: Check, run: Path | None, device: str = "cuda") -> None:
    """PyTorch on the GPU: as trained, and compiled; in float32 and under autocast to float16."""
    if run is None:
        raise RmatkError("no run to load the model from (--run)")
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RmatkError("PyTorch finds no GPU")

    from rmatk.backbones.backbone import load_backbone
    from rmatk.run import load_run, restore

    loaded = load_run(run)
    config = loaded.record.config
    model = restore(loaded, load_backbone(config.model, config.pretrained, device))
    # Each batch size compiled for itself, as TensorRT's and the captured graphs are
    compiled = torch.compile(model.encode_images, mode="reduce-overhead", dynamic=False)
    for what, encode in (("PyTorch eager", model.encode_images), ("torch.compile", compiled)):
        for precision in ("fp32", "fp16"):

            def embed(images: Float32, encode: Any = encode, half: bool = precision == "fp16") -> Any:
                with torch.autocast(device, torch.float16, enabled=half):
                    return encode(torch.from_numpy(images)).float().cpu().numpy()

            with check.part(f"{what} {precision}"):
                timings = tuple(check.time(batch, embed) for batch in check.batches)
                check.rows.append(Row(what=what, precision=precision, timings=timings))


def run_all(check: Check, run: Path | None) -> Report:
    """Every part, in turn."""
    with check.part("GPU"):
        check.gpu, check.driver = list_gpus()[0], driver_version()
    for graph in check.bundle.graphs():
        for flavour in FLAVOURS:
            with check.part(f"{flavour} {graph.precision}"):
                check.engine(graph, flavour)
    with check.part("PyTorch"):
        check_torch(check, run)
    for graph in check.bundle.graphs():
        for name in ("cuda", "ort-tensorrt", *(["cpu"] if check.cpu else [])):
            with check.part(f"onnxruntime {name} {graph.precision}"):
                opener = partial(open_backend, check.bundle, name, precision=graph.precision)
                check.backend(f"ONNX Runtime {name}", graph, opener)
    return check.report()


def main() -> None:
    """Check, write the JSON, and say in a line each what came out."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("-o", "--out", type=Path, required=True, help="the JSON file to write")
    p.add_argument("--bundle", type=Path, help="a bundle; made here if unset")
    p.add_argument("--run", type=Path, help="its run, for PyTorch's times")
    p.add_argument("--model", default="rmatk-micro", help="the model of a bundle made here")
    p.add_argument("--random-weights", action="store_true", help="untrained weights for --model")
    p.add_argument("--batches", default="1,8,32")
    p.add_argument("--rounds", type=int, default=200)
    p.add_argument("--cpu", action="store_true", help="time ONNX Runtime on the CPU as well")
    args = p.parse_args()

    def write(report: Report) -> None:
        write_atomic(args.out, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")

    with tempfile.TemporaryDirectory() as place:
        bundle, run = args.bundle, args.run
        missing: list[Missing] = []
        if bundle is None:
            bundle, run, missing = make_bundle(Path(place), args.model, random_weights=args.random_weights)
        batches = tuple(map(int, args.batches.split(",")))
        check = Check(Bundle.open(bundle), batches, args.rounds, cpu=args.cpu, on_part=write)
        check.missing += missing
        report = run_all(check, run)
    print(*lines(report), sep="\n")
    print(args.out)


if __name__ == "__main__":
    main()
