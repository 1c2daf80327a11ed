"""Output of commands: progress on the error stream, tables or JSON on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import typer

from rmatk.cli.echo import echo
from rmatk_runtime.files import path_text
from rmatk_runtime.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from rmatk.data.photos import Dataset
    from rmatk_runtime.parity.stage import StageResult
    from rmatk_runtime.progress import OnProgress

_WIDTH_OF_FILES = 200  # columns of a table in a file or pipe, where nothing has to be folded for a screen
_LEAST_NAME = 12  # columns that a row's name keeps
_FLIPS = 10  # of a stage on the terminal; JSON has all of them


def print_json(value: Any) -> None:
    """Write one JSON object as one line on standard output."""
    try:
        line = msgspec.json.encode(value)
    except UnicodeEncodeError:  # the name of a file that is not UTF-8
        line = msgspec.json.encode(_encodable(msgspec.to_builtins(value, str_keys=True)))
    typer.echo(line.decode())  # JSON has escapes of its own


def _encodable(value: Any) -> Any:
    """The same with every text as :func:`~rmatk_runtime.files.path_text` shows it."""
    if isinstance(value, str):
        return path_text(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: bool = False,
    wrap: bool = False,
) -> None:
    """Print a short table on standard output; columns after the first hold numbers unless ``text``.

    ``wrap``: the first column gives way, rather than the numbers, where the terminal is too narrow, down to
    ``_LEAST_NAME``. Past that the terminal breaks the lines: Rich would leave out what a row is about.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text: what is between square brackets is part of a name, and no markup
    shown = [[Text(printable(cell)) for cell in row] for row in rows]
    table = Table(
        title=Text(printable(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, heading in enumerate(headings):
        justify: Literal["left", "right"] = "left" if number == 0 or text else "right"
        table.add_column(
            Text(heading), justify=justify, overflow="fold", no_wrap=not text and (number == 0) != wrap
        )
    for row in shown:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    elif not text:
        whole = console.measure(table, options=console.options.update(width=_WIDTH_OF_FILES)).maximum
        name = max((row[0].cell_len for row in shown), default=0)
        console.width = max(console.width, whole - (max(name - _LEAST_NAME, 0) if wrap else 0))
    console.print(table)


def print_stages(title: str, stages: Sequence[StageResult], photos: str) -> None:
    """One row per stage, then accuracy on ``photos``, which says which these are, and labels that changed."""
    from rmatk_runtime.intervals import with_interval
    from rmatk_runtime.parity.table import SHORT, stage_row

    print_table(title, SHORT, map(stage_row, stages), wrap=True)
    for stage in stages:
        if stage.reference_accuracy is not None:
            shown = with_interval(stage.reference_accuracy, stage.images)
            echo(f"accuracy in PyTorch on {stage.images} {photos}: {shown}, 95 % interval")
            break
    for stage in stages:
        for flip in stage.flips[:_FLIPS]:
            echo(
                f"{stage.stage}: {flip.image} {flip.reference} -> {flip.candidate} (margin {flip.margin:.3f})"
            )
        if len(stage.flips) > _FLIPS:
            echo(f"{stage.stage}: and {len(stage.flips) - _FLIPS} more")


TRAINED_ON = "training photos of the golden set (trained on: not a measure of new photos)"
"""Which photos a golden set of photos holds."""


def print_notes(*photos: Dataset) -> None:
    """Print the notes of data sets (files that are not read) on the error stream, each once."""
    for note in dict.fromkeys(note for dataset in photos for note in dataset.notes):
        echo(f"note: {note}", err=True)


def print_next(*commands: str) -> None:
    """Say what to run next."""
    for number, line in enumerate(commands):
        echo(f"{'next: ' if number == 0 else '      '}{line}")


def progress_bar(*, quiet: bool = False) -> Progress:
    """A progress bar on the error stream, or lines where that is no terminal; silent when ``quiet``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from rmatk.cli.progress_lines import ProgressLines

    console = Console(stderr=True)
    if not quiet and not console.is_terminal:
        return ProgressLines()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=quiet,
    )


@contextmanager
def progress_of(label: str, *, quiet: bool = False) -> Iterator[OnProgress]:
    """A bar under ``label`` for an operation that reports through ``OnProgress``; hidden until it does.

    The estimate of the time left starts again with each new piece of work.
    """
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task(label, total=None, visible=False, note="")
        before = 0

        def advance(what: str, done: int, total: int) -> None:
            nonlocal before
            if done < before:
                bar.reset(task)
            before = done
            note = "" if what == label else what
            bar.update(task, completed=done, total=total, note=note, visible=True)

        yield advance
