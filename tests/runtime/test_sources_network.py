from __future__ import annotations

import io
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources import SourceOptions, SourceState, open_source

ONCE = SourceOptions(reconnect=0)

pytest.importorskip("av")


class MotionJpeg(BaseHTTPRequestHandler):
    """What cheap network cameras serve: ever brighter JPEGs at 20 per second, as many as the path says."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(int(self.path.strip("/").partition("?")[0])):
            data = io.BytesIO()
            Image.new("RGB", (64, 48), (20 * number, 0, 0)).save(data, "JPEG")
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data.getvalue())}\r\n\r\n"
            self.wfile.write(head.encode() + data.getvalue() + b"\r\n")
            time.sleep(0.05)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def camera_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), MotionJpeg) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_network_camera_gives_its_frames_and_no_credentials(camera_server: str) -> None:
    frames: list[Frame] = []
    source = open_source(f"http://me:hunter2@{camera_server}/8?token=hunter2", options=ONCE)
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


def test_no_credentials_in_the_errors_of_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    secret = "hunter" + "2"  # in two parts, since a traceback quotes this file
    uri = f"rtsp://admin:{secret}@127.0.0.1:9/live?token={secret}"  # nothing listens on port 9
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as caught:
        open_source(uri)
    printed = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint) + caplog.text
    assert "127.0.0.1:9/live" in caught.value.message
    assert secret not in printed


@pytest.mark.parametrize("uri", ["97", "/dev/video97", "v4l2://dev/video97"])
def test_absent_camera_is_named(uri: str) -> None:
    with pytest.raises(SourceError, match="no camera at /dev/video97"):
        open_source(uri)
