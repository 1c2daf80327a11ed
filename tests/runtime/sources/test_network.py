"""Network cameras: real servers on the loopback, which fail as cameras do."""

from __future__ import annotations

import io
import logging
import shutil
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources import Source, SourceOptions, SourceState, open_source
from rmatk_runtime.sources.camera import _device

av = pytest.importorskip("av")

ONCE = SourceOptions(reconnect=0)
SECRET = "hunter" + "2"  # in two parts, since a traceback quotes this file
RTSP_SERVER = Path(__file__).parents[1] / "servers" / "rtsp_server.py"
SYSTEM_PYTHON = "/usr/bin/python3"


class Camera(BaseHTTPRequestHandler):
    """What cheap network cameras serve: ever brighter JPEGs at 20 per second, as many as the path says.

    After those it hangs up, or with ``/hang`` in the path falls silent.
    """

    server: CameraServer

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(int(self.path.split("/")[1].partition("?")[0])):
            data = io.BytesIO()
            Image.new("RGB", (64, 48), (20 * number % 256, 0, 0)).save(data, "JPEG")
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data.getvalue())}\r\n\r\n"
            self.wfile.write(head.encode() + data.getvalue() + b"\r\n")
            if self.server.over.wait(0.05):
                return
        if "hang" in self.path:
            self.server.over.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


class CameraServer(ThreadingHTTPServer):
    """Serves until stopped, then hangs up on everybody."""

    def __init__(self, port: int = 0, handler: Any = Camera) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def camera_server() -> Iterator[str]:
    server = CameraServer()
    yield server.address
    server.stop()


def test_network_camera_gives_its_frames_and_no_credentials(camera_server: str) -> None:
    frames: list[Frame] = []
    source = open_source(f"http://me:{SECRET}@{camera_server}/8?token={SECRET}", options=ONCE)
    assert source.state is SourceState.CONNECTING
    with source, pytest.raises(SourceError, match=f"lost http://{camera_server}/8: "):
        for frame in source:
            assert source.state is SourceState.LIVE
            frames.append(frame)
    assert source.state is SourceState.GAVE_UP
    assert source.info.live and source.info.size == (64, 48)
    assert len(frames) + source.dropped == 8 and frames[-1].index == 7
    for frame in frames:
        assert frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8
        assert int(frame.image[0, 0, 0]) == pytest.approx(20 * frame.index, abs=6)
    captured = [frame.captured for frame in frames]
    assert captured == sorted(captured) and captured[-1] < time.monotonic()
    assert np.diff([frame.time for frame in frames]) == pytest.approx(np.diff(captured))
    assert 0 <= frames[0].time < 0.1
    assert {frame.source for frame in frames} == {source.info.name} == {f"http://{camera_server}/8"}


def test_network_camera_that_sends_nothing_is_an_error(camera_server: str) -> None:
    with pytest.raises(SourceError, match=camera_server):
        open_source(f"http://{camera_server}/0")


def test_a_camera_that_falls_silent_is_lost(camera_server: str) -> None:
    options = SourceOptions(timeout=0.5, reconnect=0)
    with (
        open_source(f"http://{camera_server}/9/hang", options=options) as source,
        pytest.raises(SourceError, match=f"lost http://{camera_server}/9/hang: "),
    ):
        assert [frame.index for frame in source][-1] == 8


def watch_death_and_return(source: Source, kill: Callable[[], None], revive: Callable[[], None]) -> None:
    """Take frames until the source was lost and has given ten more."""

    def strike() -> None:
        kill()
        deadline = time.monotonic() + 20
        while source.state is not SourceState.LOST and time.monotonic() < deadline:
            time.sleep(0.01)
        states.append(source.state)
        revive()

    states: list[SourceState] = []
    frames = iter(source)
    last = [next(frames) for _ in range(5)][-1]
    killer = threading.Thread(target=strike)
    killer.start()
    while not states:
        last = next(frames)
    for _ in range(10):
        frame = next(frames)
        assert frame.index > last.index and frame.time > last.time
        last = frame
    killer.join()
    assert states == [SourceState.LOST] and source.state is SourceState.LIVE


def test_a_camera_that_dies_and_comes_back_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    servers = [CameraServer()]
    port, address = servers[0].server_port, servers[0].address
    with (
        caplog.at_level(logging.DEBUG),
        open_source(f"http://me:{SECRET}@{address}/999?t={SECRET}") as source,
    ):
        watch_death_and_return(source, servers[0].stop, lambda: servers.append(CameraServer(port)))
    servers[1].stop()
    lines = [record.message for record in caplog.records if record.name.startswith("rmatk_runtime")]
    assert lines[0].startswith(f"lost http://{address}/999: ") and "trying again in" in lines[0]
    assert lines[-1] == f"http://{address}/999 is live again"
    assert SECRET not in caplog.text


def test_a_file_on_a_web_server_is_no_camera(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(5):
            pixels = np.zeros((48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    server = CameraServer(handler=partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    with pytest.raises(SourceError, match=r"clip.mp4 is a file, not a camera") as caught:
        open_source(f"http://{server.address}/clip.mp4?token={SECRET}")
    server.stop()
    assert SECRET not in caught.value.message and "download it" in str(caught.value.hint)


def test_no_credentials_in_the_errors_of_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    uri = f"rtsp://admin:{SECRET}@127.0.0.1:9/live?token={SECRET}"  # nothing listens on port 9
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as caught:
        open_source(uri)
    printed = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint) + caplog.text
    assert "127.0.0.1:9/live" in caught.value.message
    hint = "check address, port, user and password: rtsp://USER:PASSWORD@HOST:PORT/PATH"
    assert caught.value.hint == hint  # of no use here: rmatk doctor, which lists this machine's cameras
    assert SECRET not in printed


class RtspServer:
    """GStreamer's RTSP server in a process of its own, which can be killed."""

    def __init__(self, port: int = 0) -> None:
        command = [SYSTEM_PYTHON, str(RTSP_SERVER), str(port), "me", SECRET]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.port = int(lines.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def has_rtsp_server() -> bool:
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return shutil.which(SYSTEM_PYTHON) is not None and not subprocess.call(
        [SYSTEM_PYTHON, "-c", code], stderr=subprocess.DEVNULL
    )


@pytest.fixture
def rtsp_servers() -> Iterator[list[RtspServer]]:
    """One server; the test adds those that it starts, and all are killed in the end."""
    if not has_rtsp_server():
        pytest.skip(
            "GStreamer's RTSP server is missing: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi"
        )
    servers = [RtspServer()]
    yield servers
    for server in servers:
        server.kill()


@pytest.mark.debian
def test_rtsp_camera_killed_and_restarted_in_mid_stream(
    rtsp_servers: list[RtspServer], caplog: pytest.LogCaptureFixture
) -> None:
    port = rtsp_servers[0].port
    with (
        caplog.at_level(logging.DEBUG),
        open_source(f"rtsp://me:{SECRET}@127.0.0.1:{port}/ball") as source,
    ):
        assert source.info.size == (320, 240) and source.info.rate == 20
        watch_death_and_return(source, rtsp_servers[0].kill, lambda: rtsp_servers.append(RtspServer(port)))
    assert f"lost rtsp://127.0.0.1:{port}/ball: " in caplog.text and "is live again" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.debian
def test_rtsp_camera_refuses_a_wrong_password_and_it_is_not_told(rtsp_servers: list[RtspServer]) -> None:
    with pytest.raises(SourceError, match="401 Unauthorized") as caught:
        open_source(f"rtsp://me:wrong{SECRET}@127.0.0.1:{rtsp_servers[0].port}/ball")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("uri", ["97", "/dev/video97", "v4l2://dev/video97"])
def test_absent_camera_is_named(uri: str) -> None:
    with pytest.raises(SourceError, match="no camera at /dev/video97"):
        open_source(uri)


def test_what_is_no_camera_is_not_read_as_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot open v4l2://dev/null: Inappropriate ioctl") as caught:
        open_source("v4l2://dev/null", options=SourceOptions(size=(640, 480), rate=15))
    assert "rmatk doctor" in str(caught.value.hint)


def test_only_the_format_can_be_asked_of_a_v4l2_address() -> None:
    assert _device("v4l2://dev/video3?format=mjpeg") == (Path("/dev/video3"), {"input_format": "mjpeg"})
    with pytest.raises(SourceError, match="the only option of v4l2:// is format"):
        open_source("v4l2://dev/video0?speed=3")
