"""The demo's page: one HTML file that contains its pictures."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rmatk.data.photos import read_folder
from rmatk.pages.html import document, figure, percent, rows
from rmatk_runtime.files import write_atomic
from rmatk_runtime.frames import Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.intervals import interval, with_interval
from rmatk_runtime.parity.table import FULL, stage_row
from rmatk_runtime.pictures.decode import load_image
from rmatk_runtime.sources import open_source

if TYPE_CHECKING:
    from rmatk.demo import DemoResult

_TEMPLATE = Path(__file__).with_name("page.html")
_PER_CLASS = 4
_VIDEO_FRAMES = 18


def write_page(result: DemoResult) -> Path:
    """Write ``index.html`` into the demo's folder and return its path."""
    report = result.report
    accuracies = [
        (
            c.name,
            str(c.images),
            with_interval(c.zero_shot_accuracy, c.images),
            with_interval(c.accuracy, c.images),
        )
        for c in report.per_class
    ]
    accuracies.append(
        (
            "all",
            str(report.images),
            with_interval(report.zero_shot_accuracy, report.images),
            with_interval(report.accuracy, report.images),
        )
    )
    body = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        images=str(report.images),
        frame_count=str(len(result.predictions)),
        zero_shot_interval=interval(report.zero_shot_accuracy, report.images),
        adapted_interval=interval(report.accuracy, report.images),
        zero_shot=percent(report.zero_shot_accuracy),
        adapted=percent(report.accuracy),
        video_accuracy=percent(result.video_accuracy),
        seconds=f"{result.seconds:.0f}",
        shots=_shots(result),
        accuracy_rows=rows(accuracies),
        parity_headings="".join(f"<th>{escape(name)}</th>" for name in FULL),
        parity_rows=rows(stage_row(stage, FULL) for stage in result.stages),
        photos=_photos(result),
        frames=_frames(result),
        files=_files(result.out),
    )
    path = result.out / "index.html"
    write_atomic(path, document("rmatk demo", body))
    return path


def _shots(result: DemoResult) -> str:
    """The first training photo of every class."""
    photos = read_folder(result.material.train)
    return "".join(
        figure(load_image(files[0]), name, None)
        for name, files in zip(photos.class_names, photos.files, strict=True)
    )


def _photos(result: DemoResult) -> str:
    """Test photos of every class with the bundle's answers."""
    photos = read_folder(result.material.test)
    figures = []
    with Classifier.open(result.out / "bundle", backend="cpu") as classifier:
        for name, files in zip(photos.class_names, photos.files, strict=True):
            images = [load_image(file) for file in files[:_PER_CLASS]]
            for image, prediction in zip(images, classifier.classify(images), strict=True):
                figures.append(figure(image, _answer(prediction), prediction.label == name))
    return "".join(figures)


def _frames(result: DemoResult) -> str:
    """Frames spread over the video with the answers given while it ran."""
    wanted = set(np.linspace(0, len(result.predictions) - 1, _VIDEO_FRAMES).round().astype(int).tolist())
    figures = []
    with open_source(str(result.material.video)) as source:
        for frame in source:
            if frame.index in wanted:
                prediction, truth = result.predictions[frame.index], result.material.truth[frame.index]
                caption = f"{frame.time:.1f} s: {_answer(prediction)}"
                figures.append(figure(Image.fromarray(frame.image), caption, prediction.label == truth))
    return "".join(figures)


def _answer(prediction: Prediction) -> str:
    best = prediction.top[0]
    return f"{prediction.label or 'unsure'} {best.probability:.0%}"


def _files(out: Path) -> str:
    kinds = {
        "photos": "rendered photos, one folder per class: train and test",
        "video": "the rendered video and the true kind in each frame",
        "run": "adapter weights, every setting and figure of the training",
        "bundle": "what is copied to a device: graphs, classes, golden set, manifest",
        "predictions": "one JSON line per frame, and the video with the answers drawn in",
    }
    return rows((str(out / name), text) for name, text in kinds.items())
