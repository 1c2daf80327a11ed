"""The server itself, on a real socket: addresses, tokens, many viewers, and a quick end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.inference.summary import Tally
from rmatk_runtime.web.server import Address
from rmatk_runtime.web.sink import WebSink

ANSWER = Prediction((Score("mug", 0.9),), latency=0.01)
LOCAL = Address("127.0.0.1", 0)


def frame(index: int, size: int = 64) -> Frame:
    return Frame(np.random.default_rng(index).integers(0, 256, (size, size, 3), np.uint8), index, 0.0, "x")


@pytest.fixture
def sink(running, tmp_path: Path) -> Iterator[WebSink]:
    with WebSink(running.bundle, running.classifier, running.source, Tally(), LOCAL) as sink:
        yield sink


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8000", "127.0.0.1", 8000), ("[::1]:80", "::1", 80), (":9000", "127.0.0.1", 9000)],
)
def test_addresses(text: str, host: str, port: int):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["8000", "localhost", "localhost:", "localhost:http", "localhost:70000"])
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(SinkError, match="--web takes HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "camera.example", "::"])
def test_off_the_loopback_a_token_is_needed(host: str):
    with pytest.raises(SinkError, match="needs a token") as caught:
        Address(host, 8000).check_token(None)
    assert "RMATK_WEB_TOKEN=$(python3 -c" in (caught.value.hint or "")
    with pytest.raises(SinkError, match="has 5 characters"):
        Address(host, 8000).check_token("short")
    Address(host, 8000).check_token("a-token-of-some-length")
    LOCAL.check_token(None)


def test_a_taken_port_is_named(running):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(SinkError, match="cannot listen on 127.0.0.1.*in use"):
            WebSink(running.bundle, running.classifier, running.source, Tally(), address)


def test_it_serves_results_and_ends_while_viewers_wait(running):
    sink = WebSink(running.bundle, running.classifier, running.source, Tally(), LOCAL)
    with httpx2.Client(base_url=sink.url) as client:
        sink.write(frame(0), ANSWER)
        assert client.get("v1/frame").status_code == 200
        waiting = threading.Thread(target=client.get, args=("v1/frame?after=1",))
        waiting.start()
        time.sleep(0.2)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 1.0
        sink.close()
        waiting.join(2.0)
        assert not waiting.is_alive()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(sink.url)
    with pytest.raises(SinkError, match="has ended"):
        sink.write(frame(1), ANSWER)


def test_a_viewer_that_does_not_read_holds_up_nobody(sink: WebSink):
    port = int(sink.url.rstrip("/").rpartition(":")[2])
    sink.write(frame(0, size=960), ANSWER)
    stuck = []
    for _ in range(4):
        viewer = socket.create_connection(("127.0.0.1", port))
        viewer.sendall(b"GET /v1/frame?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)  # and never reads
        stuck.append(viewer)
    time.sleep(0.3)
    began = time.monotonic()
    for _ in range(200):
        sink.write(frame(1), ANSWER)
    assert time.monotonic() - began < 2.0
    answer = httpx2.get(f"{sink.url}v1/frame?after=0")
    assert '"number": 201' in answer.headers["X-Rmatk-Result"]
    for viewer in stuck:
        viewer.close()
