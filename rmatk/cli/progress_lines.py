"""Progress where there is no terminal: a line now and then, for log files, pipes and services."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import Progress, TaskID

from rmatk.cli.echo import echo

FIRST, EVERY = 5.0, 30.0
"""Seconds until the first line, and between lines."""


class ProgressLines(Progress):
    """A Rich ``Progress`` that draws nothing: it writes ``training 120/640 (19 %), loss 0.8, 4 min left``."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self._next = time.monotonic() + FIRST
        self._began: dict[TaskID, tuple[float, float]] = {}

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See :meth:`rich.progress.Progress.update`."""
        super().update(task_id, **changes)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See :meth:`rich.progress.Progress.advance`."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def reset(self, task_id: TaskID, **changes: Any) -> None:
        """See :meth:`rich.progress.Progress.reset`."""
        super().reset(task_id, **changes)
        self._began.pop(task_id, None)

    def _tell(self, task_id: TaskID) -> None:
        now, task = time.monotonic(), self._tasks[task_id]
        began, first = self._began.setdefault(task_id, (now, task.completed))
        done = task.completed - first
        if now < self._next or not task.visible:
            return
        self._next = now + EVERY
        line = f"{task.description} {task.completed:.0f}"
        if task.total:
            line += f"/{task.total:.0f} ({task.completed / task.total:.0%})"
        if note := task.fields.get("note"):
            line += f", {note}"
        if task.total and done > 0:
            line += f", {_duration((task.total - task.completed) * (now - began) / done)} left"
        echo(line, err=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
