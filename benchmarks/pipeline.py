"""What the running loop costs: its throughput beside the model's own and beside the processor's bound.

    python benchmarks/pipeline.py --video clip.mp4 --json
    python benchmarks/pipeline.py --video clip.mp4 --only micro --frames 200

- ``vit_b_32``: ViT-B-32-quickgelu with random weights. ``pipeline_over_model``: frames per second from video
  file to JSON lines, over those of the engine alone, fed with tensors made ready, in the same batches.
- ``micro``: rmatk-micro. ``pipeline_over_bound``: the same throughput over the bound that the processor sets:
  cores / (processor time per frame of reading, preparing, inference and writing, each measured alone).
- ``live``: rmatk-micro on the test pattern, 640 x 480 at 30 frames per second: frames dropped, latency from
  capture to result.
- In the first two also ``memory``: resident MB in the second and the last tenth of one run of ``--frames``.

Adapters are random (speed does not depend on their values), the labels too. Model and pipeline take turns,
and the figures are medians of the rounds. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.config import FILE_BATCH, InferConfig
from rmatk_runtime.inference.loop import run
from rmatk_runtime.inference.summary import Summary
from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.sinks import JsonlSink, Sink
from rmatk_runtime.sources import open_source
from rmatk_runtime.sources.options import SourceOptions

PARTS = {"vit_b_32": "ViT-B-32-quickgelu", "micro": "rmatk-micro", "live": "rmatk-micro"}
LIVE = "test://640x480@30"
CLASSES = 6


class MemorySink(Sink):
    """Resident MB of this process at every result."""

    def __init__(self) -> None:
        self.sizes: list[float] = []
        self._page = os.sysconf("SC_PAGE_SIZE")

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Note the size."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.sizes.append(pages * self._page / 1e6)

    def tenths(self) -> dict[str, float]:
        """Means over the second and the last tenth of the run."""
        tenth = len(self.sizes) // 10
        second, last = statistics.mean(self.sizes[tenth : 2 * tenth]), statistics.mean(self.sizes[-tenth:])
        return {"second_tenth_mb": second, "last_tenth_mb": last, "growth": last / second - 1}


def write_graph(model: str, path: Path) -> bytes:
    """Write a model's image encoder with random adapters; its preprocessing, as JSON.

    Called in a process of its own, so that torch is not in the one that is measured.
    """
    from fold_latency import random_adapters

    from rmatk.backbones.backbone import MICRO, load_backbone
    from rmatk.backbones.torchvision_ops import import_torchvision
    from rmatk_export.fold import attach, fold
    from rmatk_export.graph.encoder import image_graph
    from rmatk_export.readers.open_clip import read_image_tower

    if model == MICRO:
        backbone = load_backbone(model)
        clip, spec = backbone.model, backbone.preprocess
    else:
        import_torchvision()
        import open_clip

        clip = open_clip.create_model(model, pretrained=None).eval()
        spec = PreprocessSpec.from_open_clip(open_clip.get_model_preprocess_cfg(clip))
    tower = read_image_tower(clip)
    path.write_bytes(image_graph(fold(attach(tower, random_adapters(tower, rank=32)))).SerializeToString())
    return msgspec.json.encode(spec)


def make_classifier(model: str, folder: Path) -> Classifier:
    """A model's image encoder on ONNX Runtime, with random labels."""
    path = folder / f"{model}.onnx"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        spec = msgspec.json.decode(processes.submit(write_graph, model, path).result(), type=PreprocessSpec)
    backend = OnnxRuntimeBackend(path)
    width = backend.embed(np.zeros((1, 3, spec.height, spec.width), np.float32)).shape[1]
    rows = np.random.default_rng(0).normal(size=(CLASSES, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = ClassMatrix(tuple(f"label {number}" for number in range(CLASSES)), rows)
    return Classifier(backend, spec, LabelHead(labels, Decision(logit_scale=100.0)))


def run_video(classifier: Classifier, video: str, frames: int, folder: Path) -> tuple[Summary, MemorySink]:
    """The video over and over, into JSON lines."""
    memory = MemorySink()
    with open_source(video, options=SourceOptions(loop=True)) as source:
        sinks = [JsonlSink(folder / "out.jsonl"), memory]
        return run(source, classifier, sinks, InferConfig(max_frames=frames)), memory


def run_model(classifier: Classifier, tensors: Float32, frames: int) -> float:
    """Frames per second of the engine alone, in the loop's batches."""
    start = time.perf_counter()
    for first in range(0, frames, FILE_BATCH):
        where = [number % len(tensors) for number in range(first, min(first + FILE_BATCH, frames))]
        classifier.backend.embed(tensors[where])
    return frames / (time.perf_counter() - start)


def over_model(classifier: Classifier, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The pipeline's throughput over the model's own."""
    images = [frame.image for frame in open_source(args.video)]
    tensors = classifier.prepare(images)
    share = max(FILE_BATCH, args.frames // args.rounds)
    model, pipeline = [], []
    for _ in range(args.rounds):
        model.append(run_model(classifier, tensors, share))
        summary, _ = run_video(classifier, args.video, share, folder)
        pipeline.append(summary.frames / summary.seconds)
        say(args, f"model {model[-1]:.1f}, pipeline {pipeline[-1]:.1f} frames per second")
    both = statistics.median(model), statistics.median(pipeline)
    _, memory = run_video(classifier, args.video, args.frames, folder)
    return {
        "frames": share * args.rounds,
        "model_fps": both[0],
        "pipeline_fps": both[1],
        "pipeline_over_model": both[1] / both[0],
        "memory": memory.tenths(),
    }


def over_bound(classifier: Classifier, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The pipeline's throughput over what the processor allows."""
    alone = stages_alone(classifier, args.video, folder)
    bound = args.cores / (sum(alone.values()) / 1e3)
    summary, memory = run_video(classifier, args.video, args.frames, folder)
    rate = summary.frames / summary.seconds
    say(args, f"pipeline {rate:.1f}, bound {bound:.1f} frames per second")
    return {
        "frames": summary.frames,
        "cpu_ms_per_frame_alone": alone,
        "bound_fps": bound,
        "pipeline_fps": rate,
        "pipeline_over_bound": rate / bound,
        "memory": memory.tenths(),
    }


def stages_alone(classifier: Classifier, video: str, folder: Path) -> dict[str, float]:
    """Milliseconds of processor time per frame of each stage, with nothing else running in this process."""
    frames = list(open_source(video))
    batches = [frames[n : n + FILE_BATCH] for n in range(0, len(frames), FILE_BATCH)]
    tensors = [classifier.prepare([frame.image for frame in batch]) for batch in batches]

    def infer() -> None:
        for batch in tensors:
            for row in classifier.head.probabilities(classifier.backend.embed(batch)):
                classifier.head.predict(row)

    def write() -> None:
        with JsonlSink(folder / "alone.jsonl") as sink:
            for frame in frames:
                sink.write(frame, prediction)

    prediction = classifier.classify([frames[0].image])[0]
    stages: dict[str, Callable[[], object]] = {
        "read": lambda: list(open_source(video)),
        "prepare": lambda: [classifier.prepare([frame.image for frame in batch]) for batch in batches],
        "infer": infer,
        "write": write,
    }
    times = {}
    for name, stage in stages.items():
        start = time.process_time()
        for _ in range(3):
            stage()
        times[name] = 1e3 * (time.process_time() - start) / (3 * len(frames))
    return times


def live(classifier: Classifier, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A camera's pace: what is dropped, and how old results are."""
    with open_source(LIVE) as source:
        options = InferConfig(duration=args.seconds)
        summary = run(source, classifier, [JsonlSink(folder / "live.jsonl")], options)
    latency = {} if summary.latency is None else vars(summary.latency)
    say(args, f"{summary.frames} frames, {summary.dropped} dropped, latency {latency}")
    return {
        "source": LIVE,
        "frames": summary.frames,
        "fps": summary.frames / summary.seconds,
        "dropped": summary.dropped,
        "latency_ms": latency,
        "stages_ms": {name: vars(times) for name, times in summary.stages.items()},
    }


MEASURES: dict[str, Callable[[Classifier, argparse.Namespace, Path], dict[str, Any]]] = {
    "vit_b_32": over_model,
    "micro": over_bound,
    "live": live,
}


def say(args: argparse.Namespace, text: str) -> None:
    """Progress, unless only JSON is wanted."""
    if not args.json:
        print(text, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", required=True)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the live part")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in args.only or PARTS:
            with make_classifier(PARTS[part], Path(folder)) as classifier:
                result[part] = MEASURES[part](classifier, args, Path(folder))
    machine = {
        "cores": args.cores,
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.processor() or platform.machine(),
        "load_average": os.getloadavg(),
    }
    print(json.dumps({**result, **machine}))


if __name__ == "__main__":
    main()
