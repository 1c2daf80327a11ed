"""A running classifier, a source that says what it is told to, and the page's application over both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.regions import Regions
from rmatk_runtime.inference.summary import Tally
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.web.api import Api
from rmatk_runtime.web.live import Live
from rmatk_runtime.web.meter import Meter
from rmatk_runtime.web.snapshots import Snapshots


class StillSource(Source):
    """A live source without pictures of its own."""

    def __init__(self) -> None:
        self.info = SourceInfo(name="still", size=(40, 30), rate=30.0, frames=None, live=True)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())


@dataclass
class Running:
    """What the loop and the page share, and where it lies."""

    api: Api
    bundle: Path
    source: StillSource
    classifier: Classifier
    live: Live
    meter: Meter
    folder: Path

    def result(self, index: int = 0, label: str = "blue dot", latency: float = 0.02) -> None:
        """A result, as the loop would hand it over."""
        image = np.full((30, 40, 3), 10 * (index % 25), np.uint8)
        frame = Frame(image, index, index / 30, "still")
        prediction = Prediction((Score(label, 0.75), Score("größe", 0.25)), latency=latency)
        self.meter.count(frame, prediction)
        self.meter.tally.count(frame, prediction)
        self.live.put(frame, prediction)


@pytest.fixture
def running(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr("rmatk_runtime.labels.watch.PERIOD", 0.0)
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    source, live, folder = StillSource(), Live(), tmp_path / "snapshots"
    meter = Meter(source, Tally())
    with Classifier.open(bundle, backend="cpu") as classifier:
        api = Api(bundle, classifier, live, meter, Snapshots(folder), Regions())
        yield Running(api, bundle, source, classifier, live, meter, folder)
