"""The live view of ``rmatk infer``, drawn on a terminal that is none."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from rmatk.cli.infer.session import Session
from rmatk.cli.infer.view import LiveView
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.inference.config import InferConfig
from rmatk_runtime.sources import SourceInfo
from rmatk_runtime.sources.base import Source, SourceState

FRAME = Frame(np.zeros((4, 4, 3), np.uint8), 0, 0.0, "camera")
SURE = Prediction((Score("a can", 0.75), Score("a box", 0.25)), latency=0.0123)


class Camera(Source):
    def __init__(self, *, live: bool = True, frames: int | None = None) -> None:
        self.info = SourceInfo("rtsp://camera/live", (4, 4), 30.0, frames, live=live)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(())


def session(source: Source, **options: int) -> Session:
    classifier = SimpleNamespace(backend=SimpleNamespace(name="fake engine"), labels=("a can", "x" * 90))
    return Session(Path("bundle"), classifier, source, InferConfig(**options))  # type: ignore[arg-type]


def drawn(view: LiveView, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(view.render())
    return [line.rstrip() for line in console.export_text().splitlines()]


def make(running: Session) -> LiveView:
    return LiveView(running, Console(file=io.StringIO(), force_terminal=True, width=80))


def test_shows_labels_with_bars_rate_latency_and_the_state_of_the_source() -> None:
    running = session(Camera())
    with make(running) as view:
        assert "waiting" in drawn(view)[1]
        running.tally.count(FRAME, SURE)
        running.tally.dropped = 4
        view.write(FRAME, SURE)
        heading, first, second, figures = drawn(view)
    assert heading == "rtsp://camera/live  live"
    assert first.startswith("a can") and first.endswith("75.0%") and second.endswith("25.0%")
    lengths = [line.count("━") + line.count("╸") for line in (first, second)]
    assert lengths[0] / lengths[1] == pytest.approx(3, abs=0.3)
    assert figures.startswith("1 frames") and "latency 12 ms (p99 12)" in figures
    assert "4 dropped" in figures and figures.endswith("fake engine")


def test_a_lost_source_is_told_without_any_result() -> None:
    running = session(Camera())
    with make(running) as view:
        running.source.state = SourceState.LOST
        view.idle()
        assert drawn(view)[0] == "rtsp://camera/live  lost"


@pytest.mark.parametrize(
    ("frames", "options", "told"),
    [
        (100, {}, "of 100"),
        (100, {"every": 3}, "of 34"),
        (100, {"max_frames": 7}, "of 7"),
        (None, {}, "0 frames"),
    ],
)
def test_of_files_it_is_told_how_many_there_will_be(frames: int, options: dict[str, int], told: str) -> None:
    with make(session(Camera(live=False, frames=frames), **options)) as view:
        text = drawn(view)
    assert told in text[-1] and "dropped" not in text[-1] and "live" not in text[0].split()


def test_long_labels_are_cut_and_rejected_ones_are_not_bold() -> None:
    with make(session(Camera())) as view:
        view.write(FRAME, Prediction((Score("x" * 90, 0.5),), rejected=True))
        assert all(len(line) <= 60 for line in drawn(view, width=60))


def test_on_a_terminal_the_command_draws_in_place(tiny_bundle: Path) -> None:
    """A real process on a real pseudo-terminal; what it leaves on the screen is the last drawing."""
    main, terminal = pty.openpty()
    code = "from rmatk.cli import main; main()"
    command = [sys.executable, "-c", code, "infer", tiny_bundle, "--camera", "test://64x48@30"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [*command, "--max-frames", "20"], stdout=terminal, stderr=terminal, env=environment
    ) as process:
        os.close(terminal)
        text = b""
        try:
            while block := os.read(main, 4096):
                text += block
        except OSError:  # Linux: the other end is closed
            pass
    os.close(main)
    assert process.returncode == 0, text
    assert b"\x1b[1A" in text and b"20 of 20 frames" in text and b"green check" in text
    assert b"labels seen" in text.rsplit(b"\x1b[1A", 1)[-1]


def test_log_lines_are_plain_and_only_there_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    from rmatk.cli.logs import log_lines

    logger = logging.getLogger("rmatk_runtime.sources.live")
    with log_lines():
        logger.warning("%s is lost", "camera")
        logger.info("labels changed")
        logger.debug("nothing")
    logger.info("afterwards")
    assert capsys.readouterr().err.splitlines() == ["warning: camera is lost", "info: labels changed"]
