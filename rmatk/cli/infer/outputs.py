"""Opens the requested outputs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rmatk.cli.infer.page import Page
    from rmatk.cli.infer.session import Session
    from rmatk_runtime.sinks import Sink
    from rmatk_runtime.sinks.changes import Publish
    from rmatk_runtime.sources import Source, SourceInfo


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is to become of the results; with none of it, they are shown on the terminal."""

    jsonl: str | None
    csv: Path | None
    video: Path | None
    images: Path | None
    window: bool
    webhook: str | None
    webhook_headers: tuple[str, ...]
    webhook_picture: bool
    mqtt: str | None
    mqtt_ca: Path | None
    mqtt_discovery: str | None
    publish: Publish
    page: Page | None
    as_json: bool
    videos: list[Path] = field(default_factory=list)
    """What the videos are really called, once they are open."""

    def __post_init__(self) -> None:
        lines = {"--jsonl": self.jsonl, "--csv": self.csv and str(self.csv)}
        there = [f"{flag} -" for flag, path in lines.items() if path == "-"] + ["--json"] * self.as_json
        if len(there) > 1:
            raise typer.BadParameter(f"{' and '.join(there)} write to standard output; choose one")
        if self.publish == "all" and self.webhook is None and self.mqtt is None:
            raise typer.BadParameter("--publish is of --webhook and --mqtt: give one of them")
        if self.webhook is None and (self.webhook_headers or self.webhook_picture):
            raise typer.BadParameter("--webhook-header and --webhook-picture are of --webhook: give its URL")
        if self.mqtt is None and (self.mqtt_ca or self.mqtt_discovery):
            raise typer.BadParameter("--mqtt-ca and --mqtt-discovery are of --mqtt: give its URL")
        paths = [Path(path).resolve() for kind, path in self.files.items() if path != "-"]
        if len(set(paths)) < len(paths):
            raise typer.BadParameter("two outputs have the same name; give each its own")

    def spare(self, inputs: Sequence[str]) -> None:
        """Refuse outputs that are an input under any name: they would be written over it.

        Raises:
            typer.BadParameter: naming the option and the input.
        """
        from rmatk_runtime.sources import split_name

        for kind, path in self.files.items():
            for given in (split_name(each)[1] for each in inputs):
                if Path(path).exists() and Path(given).exists() and Path(path).samefile(given):
                    raise typer.BadParameter(f"--{kind} {path} would be written over the input {given}")

    @property
    def on_stdout(self) -> bool:
        """Whether standard output belongs to lines for another program."""
        return "-" in (self.files.get("jsonl"), self.files.get("csv"))

    @property
    def written(self) -> dict[str, str]:
        """Kind -> name of what there is after a run: of a camera without a picture there is no video."""
        videos = ", ".join(str(path) for path in self.videos if path.exists())
        return {kind: videos if kind == "video" else name for kind, name in self.files.items()}

    @property
    def files(self) -> dict[str, str]:
        """Kind -> name of what is written."""
        asked = {"jsonl": self.jsonl, "csv": self.csv, "video": self.video, "images": self.images}
        return {kind: str(path) for kind, path in asked.items() if path is not None}

    def open(self, session: Session) -> list[Sink]:
        """Open all of them; where one cannot be, those opened before are closed again."""
        with ExitStack() as stack:
            sinks = [stack.enter_context(sink) for sink in self._sinks(session)]
            stack.pop_all()
        return sinks

    def _sinks(self, session: Session) -> Iterator[Sink]:
        """Each sink, opened in its turn, those last that empty an existing file.

        A module is imported only for a sink that is asked for.
        """
        from rmatk_runtime.sinks import CsvSink, ImagesSink, JsonlSink, TerminalSink

        info = session.source.info
        if self.window:
            from rmatk_runtime.sinks.window import WindowSink

            yield WindowSink(f"rmatk: {info.name}", lambda: session.stop.ask("closed"))
        if self.webhook is not None:
            from rmatk_runtime.sinks.webhook import WebhookSink, parse_headers

            headers = parse_headers(self.webhook_headers, os.environ)
            yield WebhookSink(self.webhook, self.publish, headers=headers, picture=self.webhook_picture)
        if self.mqtt is not None:
            from rmatk_runtime.sinks.mqtt import MqttSink

            yield MqttSink(self.mqtt, self.publish, ca=self.mqtt_ca, discovery=self.mqtt_discovery)
        if self.page is not None:
            yield self.page.open(session)
        if self.video is not None:
            yield self._open_video(self.video, session.source)
        if self.images is not None:
            yield ImagesSink(self.images, append=info.live)
        if self.jsonl is not None:
            yield JsonlSink(self.jsonl, append=info.live)
        if self.csv is not None:
            yield CsvSink(self.csv, append=info.live)
        if address := os.environ.get("NOTIFY_SOCKET"):
            from rmatk_runtime.sinks.systemd import SystemdSink

            yield SystemdSink(address, session.source)
        if self._as_lines(info):
            yield TerminalSink()
        elif sys.stderr.isatty() and not self.as_json and not self.on_stdout:
            from rmatk.cli.infer.view import LiveView

            yield LiveView(session)

    def _open_video(self, path: Path, source: Source) -> Sink:
        """One video, or one for each camera."""
        from rmatk_runtime.sinks import VideoSink
        from rmatk_runtime.sinks.video import VideosSink, unused_name

        if "" not in source.cameras:
            sink = VideosSink(path, {name: camera.info.rate for name, camera in source.cameras.items()})
            self.videos.extend(sink.paths.values())
            return sink
        path = unused_name(path) if source.info.live else path  # a video cannot be continued
        self.videos.append(path)
        return VideoSink(path, rate=source.info.rate, live=source.info.live)

    def _as_lines(self, info: SourceInfo) -> bool:
        """Whether each result is a line on standard output: there is no other output and no live view."""
        elsewhere = self.files or self.window or self.webhook or self.mqtt or self.page or self.as_json
        return not elsewhere and (info.rate is None or not (sys.stdout.isatty() and sys.stderr.isatty()))
