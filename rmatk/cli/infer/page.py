"""The web page of ``--web``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk.cli.echo import echo

if TYPE_CHECKING:
    from rmatk.cli.infer.session import Session
    from rmatk_runtime.sinks import Sink


@dataclass(frozen=True)
class Page:
    """Where it is served, to whom, and where it keeps pictures; refused before anything else is opened."""

    web: str
    token: str | None
    snapshots: Path | None

    def __post_init__(self) -> None:
        from rmatk_runtime.web.server import Address

        Address.parse(self.web).check_token(self.token)

    def open(self, session: Session) -> Sink:
        """Serve it, and say where."""
        from rmatk_runtime.web.server import Address
        from rmatk_runtime.web.sink import WebSink

        sink = WebSink(
            session.bundle,
            session.classifier,
            session.source,
            session.tally,
            Address.parse(self.web),
            token=self.token,
            snapshots=self.snapshots,
            regions=session.regions,
        )
        echo(f"page: {sink.url}", err=True)
        return sink
