"""MQTT against a real Mosquitto on the loopback, killed and started again."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmatk_runtime.errors import MissingExtraError, SinkError
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.sinks.mqtt import MqttSink

SECONDS = 30.0
FRAME = Frame(np.zeros((2, 2, 3), np.uint8), 7, 0.5, "camera")


def answer(label: str) -> Prediction:
    return Prediction((Score(label, 0.9),))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Broker:
    """Mosquitto on a free port of the loopback, with a user ``me`` and the password ``hunter2``."""

    def __init__(self, folder: Path) -> None:
        self.binary = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if self.binary is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        passwords = folder / "passwords"
        passwords.write_text("me:hunter2\n")
        passwords.chmod(0o700)
        subprocess.run([shutil.which("mosquitto_passwd") or "", "-U", passwords], check=True)
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([str(self.binary), "-c", self.config], stderr=subprocess.DEVNULL)
        eventually(self.answers)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def url(self, topic: str, password: str = "hunter2") -> str:
        return f"mqtt://me:{password}@127.0.0.1:{self.port}/{topic}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    pytest.importorskip("paho.mqtt.client")
    running = Broker(tmp_path)
    running.start()
    yield running
    running.kill()


class Listener:
    """Subscribes to everything; keeps (topic, payload, retained)."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard: list[tuple[str, str, bool]] = []
        subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.username_pw_set("me", "hunter2")
        self.client.on_message = self._hear
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(SECONDS)

    def _hear(self, client: Any, data: Any, message: Any) -> None:
        self.heard.append((message.topic, message.payload.decode(), bool(message.retain)))

    def labels(self) -> list[str]:
        return [json.loads(text)["label"] for topic, text, _ in self.heard if topic == "factory/belt"]

    def statuses(self) -> list[str]:
        return [text for topic, text, _ in self.heard if topic == "factory/belt/status"]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_publishes_changes_and_its_presence(broker: Broker) -> None:
    listener = Listener(broker.port)
    with MqttSink(broker.url("factory/belt")) as sink:
        for label in ("can", "can", "box"):
            sink.write(FRAME, answer(label))
        eventually(lambda: len(listener.labels()) == 2)
    eventually(lambda: listener.statuses() == ["online", "offline"])
    assert listener.labels() == ["can", "box"]
    record = json.loads(next(text for topic, text, _ in listener.heard if topic == "factory/belt"))
    assert record == answer("can").as_record(FRAME)
    listener.close()
    late = Listener(broker.port)  # hears what was retained
    eventually(lambda: len(late.heard) == 2)
    assert late.labels() == ["box"] and late.statuses() == ["offline"]
    assert all(retained for _, _, retained in late.heard)
    late.close()


def test_the_broker_tells_when_the_process_is_killed(broker: Broker) -> None:
    listener = Listener(broker.port)
    code = (
        "import sys, time; from rmatk_runtime.sinks.mqtt import MqttSink\n"
        f"sink = MqttSink({broker.url('factory/belt')!r}); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        eventually(lambda: listener.statuses() == ["online"])
        process.kill()
    eventually(lambda: listener.statuses() == ["online", "offline"])
    listener.close()


def test_results_flow_again_after_the_broker_was_killed_and_nobody_waits_for_it(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with MqttSink(broker.url("factory/belt"), "all") as sink:
        sink.write(FRAME, answer("first"))
        eventually(sink._connected.is_set)
        broker.kill()
        eventually(lambda: not sink._connected.is_set())
        start = time.monotonic()
        for n in range(2000):  # more than the queue holds
            sink.write(FRAME, answer(f"while away {n}"))
        assert time.monotonic() - start < SECONDS / 3
        eventually(lambda: "cannot be reached" in caplog.text)
        broker.start()
        listener = Listener(broker.port)
        sink.write(FRAME, answer("back"))
        eventually(lambda: "back" in listener.labels())
    labels = listener.labels()
    assert labels[-1] == "back" and labels[-2] == "while away 1999"
    assert 2 <= len(labels) <= 300  # the newest of those kept, each at least once
    assert "can be reached again" in caplog.text and "hunter2" not in caplog.text
    assert "not delivered" in caplog.text
    listener.close()


@pytest.mark.parametrize("problem", ["password", "absent"])
def test_a_broker_that_does_not_let_in_ends_nothing(
    broker: Broker, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    if problem == "absent":
        broker.kill()
    sink = MqttSink(broker.url("factory/belt", password="wrong"))
    sink.write(FRAME, answer("can"))
    eventually(lambda: "cannot be reached" in caplog.text)
    start = time.monotonic()
    sink.close()
    assert time.monotonic() - start < SECONDS / 3
    if problem == "password":
        assert "authori" in caplog.text.lower()
    assert "wrong" not in caplog.text and "1 results were not delivered" in caplog.text


def test_a_run_too_short_for_a_second_try_tells_why_nothing_was_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("paho.mqtt.client")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        with MqttSink(f"mqtt://me:hunter2@127.0.0.1:{taken.getsockname()[1]}/factory/belt") as sink:
            sink.write(FRAME, answer("can"))
    assert "1 results were not delivered: no broker answers: Connection refused" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://host/topic", "mqtt://me:hunter2@host", "mqtt://host/a/+/b", "mqtt://me:hunter2@h:x/t"]
)
def test_what_is_no_address_with_a_topic_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SinkError, match="with a topic") as caught:
        MqttSink(url)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingExtraError, match="paho-mqtt") as caught:
        MqttSink("mqtt://host/topic")
    assert "rmatk[mqtt]" in str(caught.value.hint)
