"""How far a run has come, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rmatk.cli import console

if TYPE_CHECKING:
    from rmatk_runtime.frames import Frame, Prediction
    from rmatk_runtime.sources import SourceInfo


@contextmanager
def progress(
    info: SourceInfo, every: int, max_frames: int | None, *, quiet: bool
) -> Iterator[Callable[[Frame, Prediction], None]]:
    """A progress bar; yields what the loop calls after each result."""
    total = None if info.frames is None else -(-info.frames // every)
    if max_frames is not None:
        total = max_frames if total is None else min(total, max_frames)
    with console.progress_bar(quiet=quiet) as bar:
        task = bar.add_task("infer", total=total, note="")

        def advance(frame: Frame, prediction: Prediction) -> None:
            bar.update(task, advance=1, note=prediction.label or "unsure")

        yield advance
