"""A table for spreadsheets: one row per frame, the top labels side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.lines import LineFile


class CsvSink(Sink):
    """Columns ``frame,time,source,label,rejected,latency_ms,label_1,probability_1,...``.

    ``label`` is empty when rejected, ``latency_ms`` where the source is not live.
    """

    def __init__(self, target: str | Path) -> None:
        self._lines = LineFile(target)
        self._started = False

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Append one row, and the heading before the first. Raises StorageError, SinkError."""
        record = prediction.as_record(frame)
        top = record.pop("top")
        if not self._started:
            numbers = range(1, len(top) + 1)
            self._row([*record, *(f"{name}_{n}" for n in numbers for name in ("label", "probability"))])
            self._started = True
        values = [value for score in top for value in (score["label"], score["probability"])]
        self._row([*record.values(), *values])

    def _row(self, values: Iterable[object]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(values)
        self._lines.write(text.getvalue().encode())

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
