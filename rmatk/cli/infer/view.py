"""The terminal during a run: a bar per label, rate, latency, state of the source."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rmatk_runtime.printable import printable
from rmatk_runtime.sinks import Sink
from rmatk_runtime.sources.base import SourceState

if TYPE_CHECKING:
    from rmatk.cli.infer.session import Session
    from rmatk_runtime.frames import Frame, Prediction

_INTERVAL = 0.1  # seconds between two drawings
_LABEL = 32  # columns, at most
_WINDOW = 2.0  # seconds over which the rate is taken
_COLOURS = {SourceState.LIVE: "green", SourceState.CONNECTING: "yellow"}


class LiveView(Sink):
    """Redraws in place on the error stream, which must be a terminal; log lines scroll past above it."""

    def __init__(self, session: Session, console: Console | None = None) -> None:
        self._session = session
        self._last: tuple[Frame, Prediction] | None = None
        self._counts = [(time.monotonic(), 0)]
        self._labels: dict[tuple[str, str], str | None] = {}
        self._drawn = 0.0
        self._live = Live(
            get_renderable=self.render, console=console or Console(stderr=True), auto_refresh=False
        )
        self._live.start()

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Show this result, unless something was drawn a moment ago."""
        self._last = frame, prediction
        camera, region = frame.stream
        if camera:
            self._labels[camera, f"{region}: " if region else ""] = prediction.label
        if time.monotonic() - self._drawn >= _INTERVAL:
            self.idle()

    def idle(self) -> None:
        """Draw again: the source's state changes without results too."""
        self._drawn = time.monotonic()
        self._live.refresh()

    def close(self) -> None:
        """Draw the last result and leave it there."""
        self._live.stop()

    def render(self) -> RenderableType:
        """Everything, as it stands."""
        source, tally = self._session.source, self._session.tally
        state = Text(source.state.value, style=_COLOURS.get(source.state, "bold red"))
        heading = Text.assemble(
            (printable(source.info.name), "bold"), "  ", state if source.info.live else ""
        )
        figures = [f"{tally.frames}{_of(self._session)} frames", f"{self._rate():.1f} per second"]
        if (latency := tally.latency.percentiles()) is not None:
            figures.append(f"latency {latency.p50:.0f} ms (p99 {latency.p99:.0f})")
        if source.info.live:
            figures.append(f"{tally.dropped} dropped")
        figures.append(self._session.classifier.backend.name)
        cameras = [] if "" in source.cameras else [self._cameras()]
        return Group(heading, *cameras, self._bars(), Text(", ".join(figures), style="dim"))

    def _cameras(self) -> RenderableType:
        """One row per camera: state, frames, and what it shows."""
        table = Table.grid(padding=(0, 2))
        for name, camera in self._session.source.cameras.items():
            tally = self._session.tally.cameras.get(name)
            shown = [
                f"{region}{label or 'unsure'}" for (of, region), label in self._labels.items() if of == name
            ]
            table.add_row(
                Text(printable(name), style="bold"),
                Text(camera.state.value, style=_COLOURS.get(camera.state, "bold red")),
                Text(f"{0 if tally is None else tally.frames} frames", style="dim"),
                Text(printable(", ".join(shown))),
            )
        return table

    def _bars(self) -> RenderableType:
        """One row per label of the last result; grey where the answer was rejected."""
        if self._last is None:
            return Text("waiting for the first picture", style="dim")
        prediction = self._last[1]
        longest = max(cell_len(printable(label)) for label in self._session.classifier.labels)
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=min(longest, _LABEL), no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=1)
        table.add_column(justify="right", width=6)
        for number, score in enumerate(prediction.top):
            best = number == 0 and not prediction.rejected
            style = "bright_black" if prediction.rejected else "green" if best else "blue"
            bar = ProgressBar(
                total=1.0, completed=score.probability, complete_style=style, finished_style=style
            )
            table.add_row(
                Text(printable(score.label), style="bold" if best else "dim"), bar, f"{score.probability:.1%}"
            )
        return table

    def _rate(self) -> float:
        """Results per second of late."""
        now = time.monotonic(), self._session.tally.frames
        self._counts = [count for count in self._counts if now[0] - count[0] <= _WINDOW] + [now]
        (since, before), (until, after) = self._counts[0], self._counts[-1]
        return (after - before) / (until - since) if until > since else 0.0


def _of(session: Session) -> str:
    """`` of N`` where the number of results is known beforehand."""
    total, limit = session.source.info.frames, session.options.max_frames
    if total is not None:
        total = -(-total // session.options.every)
    known = [number for number in (total, limit) if number is not None]
    return f" of {min(known)}" if known else ""
