"""The outputs that were asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rmatk_runtime.loop import LoopOptions
    from rmatk_runtime.sinks import Sink
    from rmatk_runtime.sources import SourceInfo


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is to become of the results; without any, a line per frame on standard output."""

    jsonl: str | None
    csv: Path | None
    video: Path | None
    images: Path | None
    as_json: bool

    def __post_init__(self) -> None:
        if self.as_json and self.jsonl == "-":
            raise typer.BadParameter("--json and --jsonl - both write to standard output; choose one")

    @property
    def files(self) -> dict[str, str]:
        """Kind -> name of what is written."""
        asked = {"jsonl": self.jsonl, "csv": self.csv, "video": self.video, "images": self.images}
        return {kind: str(path) for kind, path in asked.items() if path is not None}

    def open(self, info: SourceInfo, options: LoopOptions) -> list[Sink]:
        """Open all of them; where one cannot be, those opened before are closed again."""
        from rmatk_runtime.sinks import CsvSink, ImagesSink, JsonlSink, TerminalSink, VideoSink

        makers: dict[str, Callable[[str], Sink]] = {
            "jsonl": JsonlSink,
            "csv": CsvSink,
            "video": lambda path: VideoSink(Path(path), rate=info.rate),
            "images": lambda path: ImagesSink(Path(path)),
        }
        lines = not (self.files or self.as_json)
        with ExitStack() as stack:
            sinks = [stack.enter_context(makers[kind](path)) for kind, path in self.files.items()]
            if lines:
                sinks.append(TerminalSink())
            elif sys.stderr.isatty() and not self.as_json and self.jsonl != "-":
                from rmatk.cli.infer.progress import ProgressSink

                sinks.append(ProgressSink(info, options.every, options.max_frames))
            stack.pop_all()
        return sinks
