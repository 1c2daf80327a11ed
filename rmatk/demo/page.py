"""The demo's page: one HTML file with its pictures inside, so that it can be sent around whole."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rmatk.data import read_folder
from rmatk_runtime.classifier import Classifier
from rmatk_runtime.files import write_atomic
from rmatk_runtime.frames import Prediction
from rmatk_runtime.preprocess import load_image
from rmatk_runtime.sources import open_source

if TYPE_CHECKING:
    from rmatk.demo import DemoResult

_TEMPLATE = Path(__file__).with_name("page.html")
_PER_CLASS = 4
_VIDEO_FRAMES = 18


def write_page(result: DemoResult) -> Path:
    """Write ``index.html`` into the demo's folder and return its path."""
    report = result.report
    rows = [
        (c.name, str(c.images), _percent(c.zero_shot_accuracy), _percent(c.accuracy))
        for c in report.per_class
    ]
    rows.append(("all", str(report.images), _percent(report.zero_shot_accuracy), _percent(report.accuracy)))
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        zero_shot=_percent(report.zero_shot_accuracy),
        adapted=_percent(report.accuracy),
        video_accuracy=_percent(result.video_accuracy),
        seconds=f"{result.seconds:.0f}",
        shots=_shots(result),
        accuracy_rows=_rows(rows),
        parity_rows=_rows(_parity_rows(result)),
        photos=_photos(result),
        frames=_frames(result),
        files=_files(result.out),
    )
    path = result.out / "index.html"
    write_atomic(path, page.encode())
    return path


def _parity_rows(result: DemoResult) -> Iterator[tuple[str, ...]]:
    for stage in result.stages:
        yield (
            stage.stage,
            str(stage.images),
            f"{stage.min_cosine:.7f}",
            f"{stage.max_embedding_difference:.1e}",
            _percent(stage.agreement or 0.0),
            "ok" if stage else "fails",
        )


def _shots(result: DemoResult) -> str:
    """The first training photo of every class."""
    photos = read_folder(result.material.train)
    return "".join(
        _figure(load_image(files[0]), name, None)
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
                figures.append(_figure(image, _answer(prediction), prediction.label == name))
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
                figures.append(_figure(Image.fromarray(frame.image), caption, prediction.label == truth))
    return "".join(figures)


def _figure(image: Image.Image, caption: str, right: bool | None) -> str:
    """A picture with its caption; ``right`` colours the frame green or red."""
    picture = image.copy()
    picture.thumbnail((240, 180))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    kind = "" if right is None else (' class="right"' if right else ' class="wrong"')
    text = escape(caption)
    shown = f'<img alt="{text}" src="data:image/jpeg;base64,{data}">'
    return f"<figure{kind}>{shown}<figcaption>{text}</figcaption></figure>"


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
    return _rows((str(out / name), text) for name, text in kinds.items())


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)


def _percent(share: float) -> str:
    return f"{share:.1%}"
