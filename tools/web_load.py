"""Attacks on the web page of a running ``rmatk infer``: is inference slower, memory larger, the end later?

    python tools/web_load.py --json

For each attack ``rmatk infer`` runs on a test pattern with ``--web``. The results per second are counted
first without and then under the attack. SIGTERM comes while the attack goes on.

Reported for each attack (the last line with --json): ``rate``, results per second under the attack divided by
those before it; ``memory_mb``, the largest resident memory; ``stop_s``, seconds from SIGTERM to the end;
``answers``, by status. The attacker runs on the same machine, and its own share of the processor counts.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "export"), str(ROOT / "runtime")]


MOST_HELD = 1100  # connections at once


class Attack:
    """Threads that trouble a server until :meth:`end`; ``answers``: what it said, by status."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: Counter[str] = Counter()
        self._ended = threading.Event()
        self._held: list[socket.socket] = []

    def start(self, what: Callable[[Attack], None], threads: int) -> None:
        """Repeat ``what`` in so many threads."""
        for _ in range(threads):
            threading.Thread(target=self._repeat, args=(what,), daemon=True).start()

    def _repeat(self, what: Callable[[Attack], None]) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                what(self)
            self._ended.wait(0.05)

    def end(self) -> None:
        """Let the threads end, and close what they hold."""
        self._ended.set()
        for connection in self._held:
            connection.close()

    def connect(self) -> socket.socket:
        """A connection that stays open; the oldest is closed where there are too many."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self._held.append(connection)
        if len(self._held) > MOST_HELD:
            self._held.pop(0).close()
        return connection

    def post(self, body: bytes, **headers: str) -> None:
        """Send a picture to be classified, and note the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/v1/classify", body, {"Content-Type": "image/png", **headers})
            self.answers[str(connection.getresponse().status)] += 1
        finally:
            connection.close()


def _png(size: tuple[int, int]) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (90, 120, 40)).save(data, "PNG")
    return data.getvalue()


def _head(size: int) -> bytes:
    return (
        "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()


def unfinished_bodies(attack: Attack) -> None:
    """A body of 16 MB of which the last bytes never come."""
    connection = attack.connect()
    size = (16 << 20) - 100
    connection.sendall(_head(size) + bytes(size - 1))
    attack.answers[connection.recv(20)[9:12].decode() or "closed"] += 1


def idle_connections(attack: Attack) -> None:
    """Connections that send nothing, more than the server may have files."""
    attack.connect()


def leaving_clients(attack: Attack) -> None:
    """A client that leaves in the middle of its body."""
    with socket.create_connection(("127.0.0.1", attack.port), timeout=5) as connection:
        connection.sendall(_head(1000) + b"half")


def run_attack(bundle: Path, name: str) -> dict[str, Any]:
    """One attack on one server."""
    pictures = {"large_pictures": _png((9000, 9000)), "thin_pictures": _png((1, 60_000))}
    attacks: dict[str, tuple[Callable[[Attack], None], int]] = {
        "unfinished_bodies": (unfinished_bodies, 80),
        "idle_connections": (idle_connections, 8),
        "leaving_clients": (leaving_clients, 4),
        "large_pictures": (lambda a: a.post(pictures["large_pictures"]), 12),
        "thin_pictures": (lambda a: a.post(pictures["thin_pictures"]), 4),
        "odd_origins": (lambda a: a.post(b"", Origin="http://[::1"), 2),
    }
    arguments = [sys.executable, "-m", "rmatk", "infer", str(bundle), "test://@10", "--backend", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    attack = Attack()
    with (bundle.parent / "log").open("w+") as log:
        server = subprocess.Popen(
            [*arguments, "--web", "127.0.0.1:0", "--jsonl", os.devnull],
            env=environment, stderr=log, stdout=subprocess.DEVNULL, preexec_fn=_few_files,
        )  # fmt: skip
        try:
            port = _port(server, bundle.parent / "log")
            before = _rate(port, 5.0)
            attack.port = port
            attack.start(*attacks[name])
            time.sleep(2.0)
            under = _rate(port, 8.0)
            memory = _status(server.pid, "VmHWM")
            started = time.monotonic()
            server.send_signal(signal.SIGTERM)
            server.wait(60)
            stop = time.monotonic() - started
        finally:
            attack.end()
            server.kill()
        log.seek(0)
        text = log.read()
    return {
        "rate": round(under / before, 3) if before else None,
        "memory_mb": round(memory / 1024),
        "stop_s": round(stop, 2),
        "answers": dict(attack.answers.most_common()),
        "log_lines": text.count("\n"),
        "tracebacks": text.count("Traceback"),
    }


def _few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    for _ in range(600):
        if "page: http" in (text := log.read_text()):
            return int(text.partition("page: http://")[2].split("/")[0].rpartition(":")[2])
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"rmatk infer did not start: {log.read_text()}")


def _frames(port: int) -> int | None:
    """Results so far; None where the server does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/v1/status")
        answer = connection.getresponse()
        return int(json.loads(answer.read())["frames"]) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _rate(port: int, seconds: float) -> float:
    """Results per second over so many seconds, as far as the server answers at both ends."""
    first = _until_answered(port)
    time.sleep(seconds)
    last = _until_answered(port)
    return (last[1] - first[1]) / (last[0] - first[0])


def _until_answered(port: int) -> tuple[float, int]:
    for _ in range(600):
        if (frames := _frames(port)) is not None:
            return time.monotonic(), frames
        time.sleep(0.05)
    raise SystemExit("the server does not answer any more")


def _status(pid: int, field: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0])


NAMES = (
    "unfinished_bodies",
    "idle_connections",
    "leaving_clients",
    "large_pictures",
    "thin_pictures",
    "odd_origins",
)


def main() -> None:
    """Run the attacks, print what each did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle; the tests' tiny one if unset")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with tempfile.TemporaryDirectory(prefix="rmatk-web-load-") as place:
        from tools.fuzz_bundles import build

        bundle = options.bundle or build(Path(place))
        found = {name: run_attack(bundle.resolve(), name) for name in NAMES}
    if options.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(name, *(f"{key} {value}" for key, value in figures.items()), sep="\n  ")


if __name__ == "__main__":
    main()
