"""Cameras on the loopback that behave as real ones do."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_SERVER = Path(__file__).parents[1] / "runtime" / "servers" / "rtsp_server.py"
USER, SECRET = "me", "hunter" + "2"  # in two parts, since a traceback quotes this file


def jpeg(level: int, *, noise: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A grey picture, with a sensor's noise if asked for."""
    pixels = np.full((size[1], size[0], 3), level, np.uint8)
    if noise:
        pixels += np.random.default_rng(time.monotonic_ns()).integers(0, noise, pixels.shape, np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95)
    return data.getvalue()


class Camera(ThreadingHTTPServer):
    """Serves one picture per request at any path; ``login``: None, ``basic`` or ``digest``."""

    daemon_threads = True

    def __init__(
        self, picture: Callable[[int], bytes], *, kind: str = "image/jpeg", login: str | None = None
    ):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.picture, self.kind, self.login = picture, kind, login
        self.times: list[float] = []
        self.answer: int | None = None  # a status instead of pictures
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def admits(self, method: str, path: str, header: str) -> bool:
        if self.login == "basic":
            return header == "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="?([^",]+)"?', header))
        if not header.startswith("Digest ") or fields.get("nonce") != "n1":
            return False
        first = hashlib.md5(f"{USER}:camera:{SECRET}".encode()).hexdigest()
        second = hashlib.md5(f"{method}:{path}".encode()).hexdigest()
        middle = f"n1:{fields['nc']}:{fields['cnonce']}:{fields['qop']}" if "qop" in fields else "n1"
        return fields["response"] == hashlib.md5(f"{first}:{middle}:{second}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        camera = self.server
        if camera.login and not camera.admits("GET", self.path, self.headers.get("Authorization", "")):
            self.send_response(401)
            scheme = 'Basic realm="camera"'
            if camera.login == "digest":
                scheme = 'Digest realm="camera", nonce="n1", qop="auth", algorithm=MD5'
            self.send_header("WWW-Authenticate", scheme)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if camera.answer is not None:
            self.send_error(camera.answer)
            return
        data = camera.picture(len(camera.times))
        camera.times.append(time.monotonic())
        self.send_response(200)
        self.send_header("Content-Type", camera.kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def camera(picture: Callable[[int], bytes], **wishes: str | None) -> Iterator[Camera]:
    server = Camera(picture, **wishes)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent(greeting: bytes = b"") -> Iterator[int]:
    """A port that accepts, says ``greeting`` and nothing more."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
                kept[-1].sendall(greeting)
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for connection in (listener, *kept):
            connection.close()


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that sends until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def rtsp(protocols: str = "tcp+udp") -> Iterator[int]:
    """GStreamer's RTSP server -> its port."""
    command = [SYSTEM_PYTHON, str(RTSP_SERVER), "0", USER, SECRET, protocols]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def has(*programs: str) -> bool:
    return all(map(shutil.which, programs))


def rmatk(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "rmatk", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **options.pop("env", {})},  # type: ignore[dict-item]
        **options,  # type: ignore[call-overload]
    )
