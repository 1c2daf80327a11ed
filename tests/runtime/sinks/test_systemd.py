"""Signs of life for systemd, heard on a real socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.sinks.systemd import SystemdSink
from rmatk_runtime.sources import Source, SourceInfo
from rmatk_runtime.sources.base import SourceState

FRAME = Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0, "camera")
CAN = Prediction((Score("a\ncan", 0.9),))
UNSURE = Prediction((Score("can", 0.3),), rejected=True)


class Camera(Source):
    info = SourceInfo("camera", None, None, None, live=True)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("rmatk_runtime.sinks.systemd.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("abstract", [False, True])
def test_readiness_life_and_end_are_told(tmp_path: Path, clock: list[float], abstract: bool) -> None:
    name = f"{tmp_path.name}-notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        camera = Camera()

        def heard() -> list[str]:
            messages = []
            systemd.setblocking(False)
            while True:
                try:
                    messages.append(systemd.recv(4096).decode())
                except BlockingIOError:
                    return messages

        with SystemdSink(f"@{name}" if abstract else name, camera) as sink:
            assert heard() == ["READY=1"]
            sink.write(FRAME, CAN)
            sink.write(FRAME, CAN)  # within a second
            assert heard() == ["WATCHDOG=1\nSTATUS=live: a can"]
            clock[0] += 1.0
            sink.idle()  # a camera that is live gives pictures: silence means that something hangs
            assert heard() == []
            camera.state = SourceState.LOST
            sink.idle()
            assert heard() == ["WATCHDOG=1\nSTATUS=lost: no picture"]
            clock[0] += 1.0
            camera.state = SourceState.LIVE
            sink.write(FRAME, UNSURE)
            assert heard() == ["WATCHDOG=1\nSTATUS=live: unsure"]
        assert heard() == ["STOPPING=1"]
        sink.close()


def test_a_socket_without_a_listener_is_nobodys_problem(tmp_path: Path) -> None:
    with SystemdSink(str(tmp_path / "absent"), Camera()) as sink:
        sink.write(FRAME, CAN)
