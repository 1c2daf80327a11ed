"""The webhook against a real HTTP server on the loopback."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.sinks.webhook import WebhookSink

SECONDS = 20.0
FRAME = Frame(np.zeros((2, 2, 3), np.uint8), 7, 0.5, "camera")


class Server(ThreadingHTTPServer):
    """Answers with ``statuses`` in turn, then 204; keeps what it was sent, and how many connections came."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = list(statuses)
        self.requests: list[tuple[str, dict[str, str], dict[str, object]]] = []
        self.connections = 0
        self.url = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def wait(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while len(self.requests) < count:
            assert time.monotonic() < deadline, self.requests
            time.sleep(0.005)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 0.3  # seconds after which an idle connection is closed, as servers do

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.server.requests.append((self.path, dict(self.headers), body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        running.shutdown()


def answer(label: str) -> Prediction:
    return Prediction((Score(label, 0.9),))


def test_posts_records_of_changes_on_one_connection(server: Server) -> None:
    with WebhookSink(f"http://me:p%40ss@{server.url}/hook?key=1") as sink:
        for label in ("can", "can", "box"):
            sink.write(FRAME, answer(label))
        server.wait(2)
    assert [body["label"] for _, _, body in server.requests] == ["can", "box"]
    path, headers, body = server.requests[0]
    assert path == "/hook?key=1" and headers["Content-Type"] == "application/json"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert body == answer("can").as_record(FRAME)
    assert server.connections == 1


def test_posts_every_result_where_asked(server: Server) -> None:
    with WebhookSink(f"http://{server.url}", "all") as sink:
        for _ in range(5):
            sink.write(FRAME, answer("can"))
        server.wait(5)
    assert {path for path, _, _ in server.requests} == {"/"}


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with WebhookSink(f"http://{server.url}") as sink:
        sink.write(FRAME, answer("can"))
        server.wait(1)
        time.sleep(2 * Handler.timeout)
        sink.write(FRAME, answer("box"))
        server.wait(2)
    assert server.connections == 2 and not caplog.text


@pytest.mark.parametrize(("status", "tries", "told"), [(503, 2, "trying again"), (404, 1, "refuses")])
def test_errors_of_the_server_are_tried_again_and_refusals_are_not(
    server: Server, status: int, tries: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.statuses = [status]
    with WebhookSink(f"http://me:hunter2@{server.url}/secret-path") as sink:
        sink.write(FRAME, answer("can"))
        server.wait(tries)
        sink.write(FRAME, answer("box"))
        server.wait(tries + 1)
    labels = [body["label"] for _, _, body in server.requests]
    assert labels == ["can"] * tries + ["box"]
    assert told in caplog.text and str(status) in caplog.text
    assert "hunter2" not in caplog.text and "secret-path" not in caplog.text


def test_results_flow_again_when_the_server_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with WebhookSink(f"http://127.0.0.1:{port}") as sink:
        sink.write(FRAME, answer("can"))
        deadline = time.monotonic() + SECONDS
        while "trying again" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)

        class Late(Server):
            def server_bind(self) -> None:
                self.server_address = ("127.0.0.1", port)
                super().server_bind()

        with Late() as server:
            server.wait(1)
            server.shutdown()


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "http://", "http://me:hunter2@host:port/x"])
def test_what_is_no_web_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SinkError, match="not a web address") as caught:
        WebhookSink(url)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)
