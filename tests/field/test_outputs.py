"""Outputs as they are used for months: one test per row of what once went wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timezone
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.sources import open_source
from tests.field import servers
from tools.browser import browser, chromium

LIVE = ["--camera", "test://64x48@30"]
FRAME = Frame(np.full((48, 64, 3), 90, np.uint8), 7, 0.5, "camera")
SECONDS = 30.0


def answer(label: str, *others: str) -> Prediction:
    return Prediction((Score(label, 0.9), *(Score(other, 0.01) for other in others)))


def eventually(condition, seconds: float = SECONDS):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def kill_after_some_lines(
    *command: object, cwd: Path, number: int, lines: Path, size: int = 4000
) -> subprocess.Popen[str]:
    """Start a command, and send it a signal once it has written so many bytes more."""
    before = lines.stat().st_size if lines.exists() else 0
    process = servers.rmatk(*command, cwd=cwd)
    eventually(lambda: lines.exists() and lines.stat().st_size > max(before, 1) + size)
    process.send_signal(number)
    process.communicate(timeout=60)
    return process


# --- restart by systemd after kill -9 ---------------------------------------------------------------------


def test_restart_after_kill_9_keeps_lines_table_pictures_and_video(tiny_bundle: Path, tmp_path: Path) -> None:
    outputs = ["--jsonl", "r.jsonl", "--csv", "r.csv", "--video", "r.mp4", "--images", "im"]
    lines, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    kill_after_some_lines(
        "infer", tiny_bundle, *LIVE, *outputs, cwd=tmp_path, number=signal.SIGKILL, lines=lines, size=40_000
    )
    before, rows = lines.read_bytes(), table.read_bytes()
    pictures = {path: path.read_bytes() for path in (tmp_path / "im").glob("*.jpg")}
    whole = [line for line in before.splitlines(keepends=True) if line.endswith(b"\n")]
    for path in (lines, table):  # a power cut leaves half a line
        path.write_bytes(path.read_bytes() + b'{"frame": 12, "ti')
    again = servers.rmatk("infer", tiny_bundle, *LIVE, *outputs, "--max-frames", 5, "--json", cwd=tmp_path)
    summary = json.loads(again.communicate(timeout=60)[0])
    after = lines.read_bytes()
    assert after.startswith(b"".join(whole)) and len(after.splitlines()) == len(whole) + 5
    assert all(json.loads(line)["label"] for line in after.splitlines())
    assert table.read_bytes().startswith(rows.rpartition(b"\n")[0])
    with table.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert {row["frame"].isdecimal() for row in read} == {True} and read[-1]["label"]
    assert all(path.read_bytes() == data for path, data in pictures.items())
    assert len(list((tmp_path / "im").glob("*.jpg"))) == len(pictures) + 5
    videos = sorted(tmp_path.glob("r*.mp4"))
    assert len(videos) == 2 and summary["outputs"]["video"] in {path.name for path in videos} - {"r.mp4"}
    for path, most in zip(videos, (5, 10**9), strict=True):
        with open_source(str(path)) as source:
            assert 1 <= sum(1 for _ in source) <= most


def test_files_of_what_is_not_live_are_replaced(tiny_bundle: Path, photos: Path, tmp_path: Path) -> None:
    for _ in range(2):
        process = servers.rmatk("infer", tiny_bundle, photos, "--jsonl", "r.jsonl", cwd=tmp_path)
        assert process.wait(60) == 0
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 24


def test_a_table_with_other_columns_is_not_continued(tiny_bundle: Path, tmp_path: Path) -> None:
    command = ["infer", tiny_bundle, *LIVE, "--csv", "r.csv", "--max-frames", 2]
    assert servers.rmatk(*command, cwd=tmp_path).wait(60) == 0
    before = (tmp_path / "r.csv").read_bytes()
    process = servers.rmatk(*command, "--top-k", 2, cwd=tmp_path)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "other columns" in errors and "--top-k" in errors
    assert (tmp_path / "r.csv").read_bytes() == before


# --- SIGHUP -----------------------------------------------------------------------------------------------


def test_sighup_finishes_files_as_sigterm_does(tiny_bundle: Path, tmp_path: Path) -> None:
    lines = tmp_path / "r.jsonl"
    command = ["infer", tiny_bundle, *LIVE, "--jsonl", lines, "--video", tmp_path / "r.mp4"]
    process = kill_after_some_lines(*command, cwd=tmp_path, number=signal.SIGHUP, lines=lines)
    assert process.returncode == 128 + signal.SIGHUP
    with open_source(str(tmp_path / "r.mp4")) as source:
        assert sum(1 for _ in source) == len(lines.read_text().splitlines())


def test_a_closed_terminal_finishes_files(tiny_bundle: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    lines = tmp_path / "r.jsonl"
    command = ["infer", str(tiny_bundle), *LIVE, "--jsonl", str(lines), "--video", str(tmp_path / "r.mp4")]
    process = subprocess.Popen(
        [sys.executable, "-m", "rmatk", *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(theirs)
    threading.Thread(target=_drain, args=(ours,), daemon=True).start()
    eventually(lambda: lines.exists() and lines.stat().st_size > 4000)
    os.close(ours)  # the kernel sends SIGHUP
    assert process.wait(60) == 128 + signal.SIGHUP
    with open_source(str(tmp_path / "r.mp4")) as source:
        assert sum(1 for _ in source) == len(lines.read_text().splitlines())


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


# --- clock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["live", "file"])
def test_every_record_is_dated_in_utc(source: str, tiny_bundle: Path, photos: Path, tmp_path: Path) -> None:
    start = datetime.now(timezone.utc)
    given = [*LIVE, "--max-frames", 3] if source == "live" else [photos]
    process = servers.rmatk(
        "infer", tiny_bundle, *given, "--jsonl", "r.jsonl", "--csv", "r.csv", cwd=tmp_path
    )
    assert process.wait(60) == 0
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    moments = [record["captured_at"] for record in records]
    assert moments == [row["captured_at"] for row in rows] == sorted(moments)
    for moment in moments:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
        read = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        assert start.timestamp() - 1 <= read.timestamp() <= datetime.now(timezone.utc).timestamp()


# --- labels on pictures -----------------------------------------------------------------------------------


def drawn(label: str) -> bytes:
    from rmatk_runtime.sinks.annotate import annotate

    return annotate(np.zeros((240, 320, 3), np.uint8), answer(label)).tobytes()


def test_every_latin_letter_is_drawn_as_itself() -> None:
    letters = [chr(code) for code in (*range(0xC0, 0x180), 0x1E9E) if chr(code).isalpha()]
    letters.remove("Đ")  # which looks as Ð does
    assert len({drawn(letter) for letter in letters}) == len(letters)
    assert len({drawn(word) for word in ("Größe", "Grüße", "Grosse", "café", "cafè")}) == 5


@pytest.mark.parametrize("words", [("Привет", "Привит"), ("αβγ", "αβδ"), ("مرحبا", "سلام"), ("中文", "杯子")])
def test_other_scripts_are_drawn_or_it_is_said(
    words: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    from rmatk_runtime.sinks import lettering

    lettering._choose.cache_clear()
    assert drawn(words[0]) != drawn(words[1])
    drawn(words[0])
    told = [record.message for record in caplog.records]
    escaped = any("\\u" in lettering.lettering(word, 16)[0] for word in words)
    assert len(told) == (2 if escaped else 0)
    assert all("no font here has the letters U+" in line and "install" in line for line in told)


# --- square brackets and other markup ---------------------------------------------------------------------

NAMES = ("[m4]", "[/bold]", "[link=https://x]here[/]", "bolt [red]")


def test_square_brackets_stay_in_every_table(tiny_bundle: Path, tmp_path: Path, rmatk) -> None:
    pytest.importorskip("tokenizers")
    bundle = tmp_path / "a [m4] bundle"
    shutil.copytree(tiny_bundle, bundle)
    known = ["red stripe", "green check", "blue dot"]
    for old, new in zip(known, NAMES, strict=False):
        code, out, errors = rmatk("labels", bundle, "rename", old, new)
        assert code == 0 and new in out, errors
    for command in (
        ["labels", bundle],
        ["info", bundle],
        ["infer", bundle, "--camera", "test://64x48?frames=5&live=0", "--jsonl", tmp_path / "r.jsonl"],
        ["infer", bundle, "--camera", "test://64x48?frames=5&live=0"],
        ["parity", bundle],
        ["bench", bundle, "--frames", 2, "--backend", "cpu"],
    ):
        code, out, errors = rmatk(*command)
        assert code in (0, 2), errors
        assert "Traceback" not in errors
        if command[0] in ("labels", "info"):
            assert all(name in out for name in NAMES[:3])
        assert "[m4] bundle" in out + errors or command[0] in ("infer", "parity", "bench")


def test_control_characters_are_escaped_wherever_text_is_shown(
    tmp_path: Path, rmatk, tiny_bundle: Path
) -> None:
    evil = "a\x1b[31mred\x07\u202e.jpg"
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").rename(folder / evil)
    (folder / f"bad{evil}").write_bytes(b"no picture")
    runs = [
        ["infer", tiny_bundle, folder],
        ["infer", tiny_bundle, folder / f"bad{evil}"],
        ["infer", tiny_bundle, tmp_path / f"absent{evil}"],
        ["info", tmp_path / evil],
        ["labels", tmp_path / evil],
        ["labels", tiny_bundle, "rename", evil, "x"],
        ["labels", tiny_bundle, "rename", "red stripe", evil],
        ["parity", tmp_path / evil],
        ["bench", tmp_path / evil],
        ["export", tmp_path / evil, "-o", tmp_path / "b"],
        ["eval", tmp_path / evil, folder],
        ["train", tmp_path / evil, "-o", tmp_path / "run"],
        ["doctor", tmp_path / evil],
        ["infer", tiny_bundle, "test://", "--jsonl", evil, "--csv", evil],
        ["infer", tiny_bundle, folder / evil, "--images", folder / evil],
    ]
    for command in runs:
        _, out, errors = rmatk(*command)
        assert not set(out + errors) & {"\x1b", "\x07", "\u202e"}, command
        assert "Traceback" not in errors, command


def test_one_helper_prints() -> None:
    folder = Path(__file__).parents[2] / "rmatk" / "cli"
    others = [path.name for path in folder.rglob("*.py") if "typer.echo(" in path.read_text()]
    assert sorted(others) == ["console.py", "echo.py"]  # JSON, and the helper
    assert (folder / "console.py").read_text().count("typer.echo(") == 1


# --- webhook ----------------------------------------------------------------------------------------------


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; answers with as many bytes as it is told."""

    daemon_threads = True

    def __init__(self, answer: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.answer, self.sent = answer, 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Receive(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.answer))
        self.end_headers()
        try:
            while self.server.sent < self.server.answer:
                self.server.sent += self.wfile.write(bytes(1 << 16))
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.shutdown()
    server.server_close()


def test_webhook_headers_take_secrets_from_the_environment(
    receiver: Receiver, tiny_bundle: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    headers = ["--webhook-header", "Authorization: Bearer $HOOK", "--webhook-header", "X-Price: 5 $$"]
    command = ["infer", tiny_bundle, *LIVE, "--max-frames", 2, "--webhook", url, *headers]
    process = servers.rmatk(*command, env={"HOOK": "s3cret"})
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "s3cret" not in out + errors
    assert (
        receiver.heard[0][0]["Authorization"] == "Bearer s3cret" and receiver.heard[0][0]["X-Price"] == "5 $"
    )
    unset = servers.rmatk(*command)
    errors = unset.communicate(timeout=60)[1]
    assert unset.returncode == 1 and "the variable HOOK is not set" in errors
    wrong = servers.rmatk(*command[:-4], "--webhook-header", "s3cret")
    errors = wrong.communicate(timeout=60)[1]
    assert wrong.returncode == 1 and "s3cret" not in errors and "Authorization: Bearer" in errors


def test_webhook_answers_are_read_up_to_a_limit(receiver: Receiver) -> None:
    from rmatk_runtime.sinks.webhook import WebhookSink

    receiver.answer = 1 << 30
    with WebhookSink(f"http://127.0.0.1:{receiver.server_port}/", "all") as sink:
        sink.write(FRAME, answer("first"))
        sink.write(FRAME, answer("second"))
        eventually(lambda: len(receiver.heard) == 2)
    assert receiver.sent < 64 << 20  # what fits into the sockets' buffers
    assert [json.loads(body)["label"] for _, body in receiver.heard] == ["first", "second"]


def test_webhook_sends_the_picture_when_asked(receiver: Receiver) -> None:
    from rmatk_runtime.sinks.webhook import WebhookSink

    with WebhookSink(f"http://127.0.0.1:{receiver.server_port}/", picture=True) as sink:
        sink.write(FRAME, answer("first"))
        eventually(lambda: receiver.heard)
    headers, body = receiver.heard[0]
    form = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
    assert json.loads(parts["result"].get_payload(decode=True))["label"] == "first"
    assert Image.open(io.BytesIO(parts["picture"].get_payload(decode=True))).size == (64, 48)


# --- MQTT -------------------------------------------------------------------------------------------------


def certify(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate authority of its own and a broker's certificate -> (ca, certificate, key)."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*make, "-subj", "/CN=own authority", "-keyout", ca_key, "-out", ca], check=True)
    certificate, key = folder / "broker.pem", folder / "broker.key"
    sign = ["-CA", ca, "-CAkey", ca_key, "-subj", "/CN=localhost", *names]
    subprocess.run([*make, *sign, "-keyout", key, "-out", certificate], check=True)
    return ca, certificate, key


@pytest.mark.debian
def test_mqtt_with_a_certificate_authority_of_its_own(tmp_path: Path) -> None:
    from rmatk_runtime.sinks.mqtt import MqttSink

    pytest.importorskip("paho.mqtt.client")
    binary = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if binary is None or shutil.which("openssl") is None:
        pytest.skip("mosquitto and openssl are not installed")
    ca, certificate, key = certify(tmp_path)
    port = servers.free_port(socket.SOCK_STREAM)
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\ncertfile {certificate}\nkeyfile {key}\nuser root\n"
    )
    with servers.running(binary, "-c", str(config)):
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        url = f"mqtts://localhost:{port}/factory/belt"
        with MqttSink(url, ca=ca) as sink:
            sink.write(FRAME, answer("can"))
            eventually(sink._connected.is_set)
        with MqttSink(url) as stranger:
            time.sleep(1)
            assert not stranger._connected.is_set()
    with pytest.raises(SinkError, match="--mqtt-ca .*broker.key: holds no certificate"):
        MqttSink(url, ca=key)
    with pytest.raises(SinkError, match="absent.pem: No such file"):
        MqttSink(url, ca=tmp_path / "absent.pem")
    with pytest.raises(SinkError, match="encrypted"):
        MqttSink("mqtt://localhost/x", ca=ca)


@pytest.mark.debian
def test_mqtt_is_dated_and_announces_itself_to_home_assistant(tmp_path: Path) -> None:
    from dataclasses import replace

    from rmatk_runtime.sinks.mqtt import MqttSink

    pytest.importorskip("paho.mqtt.client")
    from tests.runtime.sinks.test_mqtt import Broker, Listener

    broker = Broker(tmp_path)
    broker.start()
    listener = Listener(broker.port)
    try:
        with MqttSink(broker.url("factory/belt"), discovery="homeassistant") as sink:
            sink.write(FRAME, answer("can"))
            sink.write(replace(FRAME, camera="front"), answer("box"))
            eventually(lambda: len([t for t, _, _ in listener.heard if t.startswith("factory")]) >= 3)
    finally:
        broker.kill()
        listener.close()
    heard = {topic: text for topic, text, _ in listener.heard}
    announced = [
        json.loads(text) for topic, text in heard.items() if topic.startswith("homeassistant/sensor/")
    ]
    assert {entry["state_topic"] for entry in announced} == {"factory/belt", "factory/belt/front"}
    assert len({entry["unique_id"] for entry in announced}) == 2
    for entry in announced:
        assert entry["availability_topic"] == "factory/belt/status" and entry["device"]["identifiers"]
        record = json.loads(heard[entry["state_topic"]])
        assert record["captured_at"] == FRAME.captured_at or record["camera"] == "front"
        assert "value_json.label" in entry["value_template"]


# --- page behind a proxy ----------------------------------------------------------------------------------


class Proxy(BaseHTTPRequestHandler):
    """Serves what is at ``target`` under ``/rmatk/``, and nothing else, as a reverse proxy does."""

    target = ""
    strange: list[str]

    def forward(self) -> None:
        if not self.path.startswith("/rmatk/"):
            self.strange.append(self.path)
            self.send_error(404)
            return
        length = int(self.headers.get("Content-Length", 0))
        request = urllib.request.Request(
            self.target + self.path.removeprefix("/rmatk/"),
            self.rfile.read(length) if length else None,
            dict(self.headers),
            method=self.command,
        )
        opener = urllib.request.build_opener(_NoRedirection)
        try:
            answer = opener.open(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = forward

    def log_message(self, format: str, *args: object) -> None:
        pass


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **more: object) -> None:
        return None


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="chromium and chromium-driver are not installed")
def test_the_page_works_behind_a_proxy_under_a_path(tiny_bundle: Path) -> None:
    token = "a-token-of-some-length"
    process = servers.rmatk(
        "infer", tiny_bundle, *LIVE, "--web", "127.0.0.1:0", env={"RMATK_WEB_TOKEN": token}
    )
    assert process.stderr is not None
    Proxy.target = next(line for line in process.stderr if line.startswith("page: ")).split()[1]
    Proxy.strange = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with browser() as driver:
            root = f"http://127.0.0.1:{server.server_port}/rmatk/"
            driver.get(root)
            assert driver.current_url == root + "login"
            driver.find_element("css selector", "#token").send_keys(token)
            driver.find_element("css selector", "button").click()
            eventually(lambda: driver.current_url == root)
            eventually(lambda: driver.find_element("css selector", "#state").text == "live")
            eventually(
                lambda: (
                    driver.find_element("css selector", "#label").text
                    in ("blue dot", "green check", "red stripe")
                )
            )
    finally:
        process.kill()
        process.communicate()
        server.shutdown()
        server.server_close()
    assert [path for path in Proxy.strange if path != "/favicon.ico"] == []


# --- closed standard output -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--jsonl", "--csv"])
def test_lines_to_a_closed_standard_output_are_a_named_error(option: str, tiny_bundle: Path) -> None:
    command = f'exec "$0" -m rmatk infer "$1" --camera test://64x48@30 {option} - --max-frames 3 >&-'
    process = subprocess.run(
        ["bash", "-c", command, sys.executable, str(tiny_bundle)], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 1 and "standard output is closed" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_summary_to_a_closed_standard_output_is_no_traceback(tiny_bundle: Path) -> None:
    command = 'exec "$0" -m rmatk infer "$1" --camera test://64x48@30 --max-frames 3 --json >&-'
    process = subprocess.run(
        ["bash", "-c", command, sys.executable, str(tiny_bundle)], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in process.stderr
