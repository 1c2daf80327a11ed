"""One JSON object per line and frame, on disk before the next frame is read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.lines import LineFile


class JsonlSink(Sink):
    """Writes ``Prediction.as_record``; ``-`` is standard output. ``append``: see :class:`LineFile`."""

    def __init__(self, target: str | Path, *, append: bool = False) -> None:
        self._lines = LineFile(target, append=append)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Append one line. Raises StorageError, SinkError."""
        self._lines.write(msgspec.json.encode(prediction.as_record(frame)) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
