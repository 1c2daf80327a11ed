"""Predictions for a person to read: one plain line per frame."""

from __future__ import annotations

from pathlib import PurePath
from typing import TextIO

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.base import Sink


class TerminalSink(Sink):
    """Writes lines like ``clip.mp4      12    0.800 s  bottle 93.1 %  can 4.0 %`` to a text stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write one line and flush it."""
        name = frame.source if "://" in frame.source else PurePath(frame.source).name
        scores = "  ".join(f"{score.label} {score.probability:.1%}" for score in prediction.top)
        unsure = "unsure: " if prediction.rejected else ""
        self._stream.write(f"{name} {frame.index:7d} {frame.time:8.3f} s  {unsure}{scores}\n")
        self._stream.flush()
