"""The sinks that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmatk_runtime.sinks import Sink
    from rmatk_runtime.sources import SourceInfo


def open_sinks(outputs: dict[str, str], info: SourceInfo, *, lines: bool) -> list[Sink]:
    """The sinks asked for; where one cannot be opened, those opened before are closed again."""
    from rmatk_runtime.sinks import CsvSink, ImagesSink, JsonlSink, TerminalSink, VideoSink

    makers: dict[str, Callable[[str], Sink]] = {
        "jsonl": JsonlSink,
        "csv": CsvSink,
        "video": lambda path: VideoSink(Path(path), rate=info.rate),
        "images": lambda path: ImagesSink(Path(path)),
    }
    with ExitStack() as stack:
        sinks: list[Sink] = [stack.enter_context(makers[kind](path)) for kind, path in outputs.items()]
        if lines and not outputs:
            sinks.append(TerminalSink())
        stack.pop_all()
    return sinks
