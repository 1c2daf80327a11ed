"""Predictions as one plain line per frame on standard output."""

from __future__ import annotations

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.printable import printable
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.lines import LineFile


class TerminalSink(Sink):
    """Writes lines like ``in/clip.mp4      12    0.800 s  bottle 93.1%  can 4.0%``."""

    def __init__(self) -> None:
        self._lines = LineFile("-")

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write one line. Raises SinkError."""
        scores = "  ".join(f"{score.label} {score.probability:.1%}" for score in prediction.top)
        unsure = "unsure: " if prediction.rejected else ""
        where = " ".join(filter(None, (frame.camera or frame.source, frame.stream[1])))
        line = f"{where} {frame.index:7d} {frame.time:8.3f} s  {unsure}{scores}"
        self._lines.write(printable(line).encode() + b"\n")
