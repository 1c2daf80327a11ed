"""A table for spreadsheets: one row per frame, the top labels side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.lines import LineFile


class CsvSink(Sink):
    """Columns ``frame,time,captured_at,source,camera,region,label,rejected,latency_ms,label_1,...``.

    ``label`` is empty when rejected, ``latency_ms`` where the source is not live.
    """

    def __init__(self, target: str | Path, *, append: bool = False) -> None:
        self._target, self._lines = target, LineFile(target, append=append)
        self._started = False

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Append one row, and the heading before the first. Raises StorageError, SinkError."""
        record = prediction.as_record(frame)
        top = record.pop("top")
        if not self._started:
            numbers = range(1, len(top) + 1)
            self._begin([*record, *(f"{name}_{n}" for n in numbers for name in ("label", "probability"))])
            self._started = True
        values = [value for score in top for value in (score["label"], score["probability"])]
        self._row([*record.values(), *values])

    def _begin(self, names: Iterable[str]) -> None:
        """Write the heading, unless the file that is continued has it already."""
        heading = _line(names)
        if not self._lines.heading:
            self._lines.write(heading)
        elif self._lines.heading + b"\n" != heading:
            raise SinkError(
                f"{self._target} is there, and has other columns", "give another name, or the same --top-k"
            )

    def _row(self, values: Iterable[object]) -> None:
        self._lines.write(_line(values))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _line(values: Iterable[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
