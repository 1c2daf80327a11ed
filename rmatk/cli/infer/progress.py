"""How far a run has come, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rmatk.cli import console
from rmatk_runtime.sinks import Sink

if TYPE_CHECKING:
    from rmatk_runtime.frames import Frame, Prediction
    from rmatk_runtime.sources import SourceInfo


class ProgressSink(Sink):
    """A progress bar on the error stream, where that is a terminal."""

    def __init__(self, info: SourceInfo, every: int, max_frames: int | None) -> None:
        total = None if info.frames is None else -(-info.frames // every)
        if max_frames is not None:
            total = max_frames if total is None else min(total, max_frames)
        self._bar = console.progress_bar()
        self._task = self._bar.add_task("infer", total=total, note="")
        self._bar.start()

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Move on by one."""
        self._bar.update(self._task, advance=1, note=prediction.label or "unsure")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()
