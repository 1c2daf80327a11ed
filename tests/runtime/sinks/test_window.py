"""The window on a real X server without a screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageGrab

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.sinks.window import WindowSink

PREDICTION = Prediction((Score("can", 0.9), Score("box", 0.1)))


def frame(level: int, size: tuple[int, int] = (320, 240)) -> Frame:
    return Frame(np.full((size[1], size[0], 3), level, np.uint8), 0, 0.0, "camera")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The name of a new X server's screen of 800 x 600. One for all: Xlib ends a process that outlives it."""
    pytest.importorskip("tkinter")
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (apt-get install xvfb)")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with open(reading) as numbers:  # noqa: PTH123 - a descriptor
            name = f":{numbers.readline().strip()}"
        yield name
        server.terminate()


@pytest.fixture
def display(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DISPLAY", server)
    return server


def test_shows_the_annotated_picture(display: str, tmp_path: Path) -> None:
    with WindowSink("test", lambda: None) as sink:
        sink.write(frame(200), PREDICTION)
        sink._drawn.clear()
        sink.write(frame(90), PREDICTION)
        sink.idle()
        shown = np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB"))
    # The frame's grey, and the green of the best label's bar
    assert (shown == 90).all(axis=2).sum() > 320 * 240 / 3
    assert (np.abs(shown.astype(int) - (46, 160, 103)).max(axis=2) < 8).sum() > 500


def test_a_picture_larger_than_the_screen_is_made_to_fit(display: str) -> None:
    with WindowSink("test", lambda: None) as sink:
        sink.write(frame(90, (3000, 1000)), PREDICTION)
        assert (sink._photos[""].width(), sink._photos[""].height()) == (720, 240)


@pytest.mark.parametrize("event", ["<Escape>", "<q>", "close"])
def test_keys_and_the_close_button_ask_for_the_end(display: str, event: str) -> None:
    asked: list[bool] = []
    with WindowSink("test", lambda: asked.append(True)) as sink:
        if event == "close":
            sink._root.tk.call(*sink._root.tk.splitlist(sink._root.protocol("WM_DELETE_WINDOW")))
        else:
            sink._root.focus_force()
            sink._root.update()
            sink._root.event_generate(event)
        sink.idle()
        assert asked == [True]
    sink.close()


def test_without_a_screen_or_tkinter_the_error_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(SinkError, match="no screen") as caught:
        WindowSink("test", lambda: None)
    assert "--web" in str(caught.value.hint)
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(SinkError, match="tkinter") as caught:
        WindowSink("test", lambda: None)
    assert "python3-tk" in str(caught.value.hint)
