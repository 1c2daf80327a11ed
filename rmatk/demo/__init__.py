"""The demo: a few rendered photos -> run -> bundle -> predictions on a video, offline.

Everything real: the kinds of parts and the rendering style are ones the embedded backbone never saw, the
functions called are those of the commands, and every figure on the page was measured in this very run.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rmatk.api import check_parity, evaluate, export, train
from rmatk.backbones.backbone import SMALL
from rmatk.config import TrainConfig
from rmatk.demo.material import DemoFiles, render
from rmatk.evaluation.accuracy import EvalReport
from rmatk.run import Run
from rmatk_runtime.files import check_replaceable, write_atomic
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.loop import run as run_loop
from rmatk_runtime.inference.summary import Summary
from rmatk_runtime.parity.stage import StageResult
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.sinks import JsonlSink, Sink, VideoSink
from rmatk_runtime.sources import open_source

MARKER = "demo.json"
PARTS = ("photos", "video", "run", "bundle", "predictions", "index.html", MARKER)
STEPS = (
    "render photos and a video",
    "train on 16 photos per class",
    "evaluate on photos not seen",
    "export",
    "check parity with PyTorch",
    "run on the video",
    "write the page",
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo came to; accuracies are shares in [0, 1]. ``predictions``: one per video frame."""

    out: Path
    material: DemoFiles
    run: Run
    report: EvalReport
    stages: tuple[StageResult, ...]
    summary: Summary
    predictions: tuple[Prediction, ...]
    video_accuracy: float
    seconds: float


def demo(out: Path, *, seed: int = 1, on_progress: OnProgress = no_progress) -> DemoResult:
    """Run the demo into the folder ``out``.

    Args:
        out: an absent or empty folder, or that of an earlier demo, which is replaced.
        seed: of rendering, shots and training.
        on_progress: called with each of :data:`STEPS` as it begins, and the number of steps done.

    Raises:
        StorageError: ``out`` holds something else, disk full.
        ParityError: a stage does not give what PyTorch gave.
    """
    from rmatk.demo.page import write_page

    began = time.perf_counter()
    _make_room(out)
    on_progress(STEPS[0], 0, len(STEPS))
    material = render(out, seed)
    on_progress(STEPS[1], 1, len(STEPS))
    run = train(material.train, out / "run", TrainConfig(model=SMALL, seed=seed))
    on_progress(STEPS[2], 2, len(STEPS))
    report = evaluate(out / "run", material.test)
    on_progress(STEPS[3], 3, len(STEPS))
    export(out / "run", out / "bundle")
    on_progress(STEPS[4], 4, len(STEPS))
    parity = check_parity(out / "bundle", material.test, against=out / "run", backend="cpu").require_passed()
    on_progress(STEPS[5], 5, len(STEPS))
    summary, predictions = _infer(out, material)
    hits = sum(p.label == truth for p, truth in zip(predictions, material.truth, strict=True))
    on_progress(STEPS[6], 6, len(STEPS))
    result = DemoResult(
        out,
        material,
        run,
        report,
        parity.stages,
        summary,
        predictions,
        hits / len(predictions),
        time.perf_counter() - began,
    )
    write_page(result)
    return result


def _make_room(out: Path) -> None:
    """Clear an earlier demo; refuse a folder that holds anything else."""
    check_replaceable(out, marker=MARKER)
    for name in PARTS[:-1]:
        part = out / name
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
    write_atomic(out / MARKER, msgspec.json.encode({"format": "rmatk-demo", "holds": PARTS}))


class _Kept(Sink):
    """Keeps the predictions for the page."""

    def __init__(self) -> None:
        self.predictions: list[Prediction] = []

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Keep one."""
        self.predictions.append(prediction)


def _infer(out: Path, material: DemoFiles) -> tuple[Summary, tuple[Prediction, ...]]:
    kept = _Kept()
    with (
        Classifier.open(out / "bundle", backend="cpu") as classifier,
        open_source(str(material.video)) as source,
    ):
        sinks = [
            kept,
            JsonlSink(out / "predictions" / "video.jsonl"),
            VideoSink(out / "predictions" / "video.mp4", rate=source.info.rate),
        ]
        summary = run_loop(source, classifier, sinks)
    return summary, tuple(kept.predictions)
