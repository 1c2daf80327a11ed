"""What clients may take together, by a real server and real connections."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import time
from collections.abc import Iterator

import pytest
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Message

from rmatk_runtime.web import limits, protocol
from rmatk_runtime.web.app import make_app
from rmatk_runtime.web.limits import Attempts, Bodies, FewLines, Turns
from rmatk_runtime.web.server import Address, WebServer


@pytest.fixture
def server(running) -> Iterator[WebServer]:
    found = WebServer(make_app(running.api), Address("127.0.0.1", 0))
    yield found
    found.close()


def connect(server: WebServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(10)
    return connection


def read(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    while part := connection.recv(4096):
        data += part
    return data


def test_connections_are_limited_with_an_answer(server: WebServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 3)
    held = [connect(server) for _ in range(3)]
    for connection in held:  # one request each, so that all are accepted
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 ")
    assert b"503" in (answer := read(connect(server))) and b"too many connections" in answer
    held[0].close()
    time.sleep(0.2)
    again = connect(server)
    again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b"too many" not in read(again)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: local"])
def test_a_connection_without_a_request_is_closed(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, sent: bytes
):
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    connection = connect(server)
    connection.sendall(sent)
    assert read(connection) == b""


def test_a_body_that_does_not_arrive_is_given_up(server: WebServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    connection = connect(server)
    connection.sendall(
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: 100\r\nConnection: close\r\n\r\nhalf"
    )
    assert b"408" in read(connection)


def test_a_client_that_leaves_is_no_error(server: WebServer, caplog: pytest.LogCaptureFixture):
    connection = connect(server)
    connection.sendall(
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: 100\r\n\r\nhalf"
    )
    connection.close()
    time.sleep(0.3)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_bodies_together_are_limited(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "BODIES", 100)
    bodies = Bodies()

    async def part() -> Message:
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    async def two() -> None:
        first, done = bodies.limited(part)
        second, also_done = bodies.limited(part)
        await first()
        with pytest.raises(HTTPException) as refused:
            await second()
        assert refused.value.status_code == 503
        also_done()
        done()
        done()

    asyncio.run(two())
    assert bodies.held == 0


def test_a_declared_body_is_refused_before_it_arrives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "BODIES", 100)
    monkeypatch.setattr(limits, "MOST_BYTES", 90)
    bodies = Bodies()

    async def never() -> Message:
        pytest.fail("it is not waited for")

    async def status(declared: str) -> int:
        limited, done = bodies.limited(never, declared)
        with pytest.raises(HTTPException) as refused:
            await limited()
        done()
        return refused.value.status_code

    _, done = bodies.limited(never, "60")
    assert asyncio.run(status("91")) == 413 and asyncio.run(status("50")) == 503
    done()
    assert bodies.held == 0


def test_pictures_take_turns_and_few_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "QUEUE", 2)
    turns, running, most = Turns(), 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1

    async def three() -> list[object]:
        return list(await asyncio.gather(*(turns.run(work) for _ in range(3)), return_exceptions=True))

    found = asyncio.run(three())
    turns.close()
    assert most == 1 and [isinstance(each, HTTPException) for each in found] == [False, False, True]


def test_a_picture_of_too_many_pixels_is_refused(running):
    data = io.BytesIO()
    Image.new("1", (4000, 4000)).save(data, "PNG")
    client = TestClient(make_app(running.api), base_url="http://localhost")
    answer = client.post("/v1/classify", content=data.getvalue(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 400 and "more than 13 million pixels" in answer.json()["error"]


def test_wrong_tokens_are_forgotten_after_a_minute():
    now = 1000.0
    attempts = Attempts(clock=lambda: now)
    for _ in range(limits.ATTEMPTS):
        assert not attempts.exhausted("a")
        attempts.note("a")
    assert attempts.exhausted("a") and not attempts.exhausted("b")
    now += 61
    assert not attempts.exhausted("a")
    for number in range(2000):
        attempts.note(str(number))
    assert len(attempts._wrong) == 1000


def test_log_lines_are_few():
    now = 1000.0
    few = FewLines(clock=lambda: now)
    record = logging.LogRecord("x", logging.WARNING, "", 0, "again %d", (1,), None)
    assert sum(few.filter(record) for _ in range(50)) == 10
    now += 61
    assert few.filter(record) and record.getMessage() == "again 1 (40 more lines in the minute before)"
