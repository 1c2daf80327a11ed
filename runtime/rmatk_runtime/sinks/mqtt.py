"""Publishes results and this process's availability to an MQTT broker."""

from __future__ import annotations

import re
import secrets
import ssl
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from rmatk_runtime.errors import MissingExtraError, SinkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.announcements import Announcements
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.changes import Changes, Publish
from rmatk_runtime.sinks.outbox import LONGEST_WAIT, Outbox, Unsent

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.reasoncodes import ReasonCode

KEEP_ALIVE = 15
"""Seconds between signs of life; after one and a half of them the broker tells that this process is gone."""
SECONDS = 5.0
"""Without an acknowledgement for so long a message counts as unsent."""
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttSink(Sink):
    """Publishes ``Prediction.as_record`` to ``mqtt(s)://[USER:PASSWORD@]HOST[:PORT]/TOPIC``.

    At least once (QoS 1), and retained: who subscribes later hears the last answer. ``TOPIC/status`` is
    ``online``, or ``offline``, which the broker says by itself when this process or its network dies. Named
    cameras and regions have topics of their own: ``TOPIC/CAMERA/REGION``.

    ``ca``: certificates to check the broker's by. ``discovery``: the first level of Home Assistant's topics,
    under which each topic is announced as a sensor.
    """

    def __init__(
        self, url: str, publish: Publish = "change", *, ca: Path | None = None, discovery: str | None = None
    ) -> None:
        parts, port = _parse(url)
        if ca is not None and parts.scheme != "mqtts":
            raise SinkError("--mqtt-ca is of an encrypted connection", "write --mqtt mqtts://host/topic")
        self._ca, self._announcements = ca, None if discovery is None else Announcements(discovery)
        self._topic = unquote(parts.path.strip("/"))
        self._changes = Changes(publish)
        self._connected = threading.Event()
        self._reason = "no broker answers"
        self._client = self._make_client(parts)
        self._client.connect_async(str(parts.hostname), port, KEEP_ALIVE)
        self._client.loop_start()
        self._outbox = Outbox(
            f"{parts.scheme}://{parts.hostname}:{port}/{self._topic}",
            self._publish,
            why=lambda: None if self._connected.is_set() else self._reason,
        )

    def _make_client(self, parts: SplitResult) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise MissingExtraError("paho-mqtt", "mqtt") from None
        client = Client(CallbackAPIVersion.VERSION2, f"rmatk-{secrets.token_hex(4)}")
        if parts.scheme == "mqtts":
            try:
                client.tls_set(None if self._ca is None else str(self._ca))
            except OSError as error:  # ssl.SSLError is one
                why = "holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
                raise SinkError(f"--mqtt-ca {self._ca}: {why}", "give a file in PEM form") from error
        if parts.username is not None:
            client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, round(LONGEST_WAIT))
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        return client

    def _on_connect(self, client: Client, data: Any, flags: Any, code: ReasonCode, more: Any) -> None:
        if code.is_failure:
            self._reason = f"the broker says {code}"
            return
        client.publish(f"{self._topic}/status", "online", qos=1, retain=True)
        self._connected.set()

    def _on_connect_fail(self, client: Client, data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this where it caught it, and does not hand it over
        words = getattr(error, "strerror", None) or error
        self._reason = f"no broker answers: {words}" if words else "no broker answers"

    def _on_disconnect(self, client: Client, data: Any, flags: Any, code: ReasonCode, more: Any) -> None:
        if self._connected.is_set():  # otherwise the broker's refusal says more
            self._reason = "the connection was lost"
        self._connected.clear()

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Queue one result; never waits for the network."""
        if self._changes.wants(frame, prediction):
            topic = "/".join((self._topic, *map(level, filter(None, frame.stream))))
            self._outbox.put(topic.encode() + b"\0" + msgspec.json.encode(prediction.as_record(frame)))

    def _publish(self, message: bytes) -> None:
        """Publish one message, its topic before it, and wait for the broker's acknowledgement."""
        topic, _, record = message.partition(b"\0")
        if self._announcements is not None:
            for name, announcement in self._announcements.new(topic.decode(), f"{self._topic}/status"):
                self._send(name, announcement)
        self._send(topic.decode(), record)

    def _send(self, topic: str, message: bytes) -> None:
        if not self._connected.wait(1.0):
            raise Unsent(self._reason)
        try:
            sent = self._client.publish(topic, message, qos=1, retain=True)
            sent.wait_for_publish(SECONDS)
        except (RuntimeError, ValueError) as error:  # paho's, for a connection lost in between
            raise Unsent(error) from error
        if not sent.is_published():
            raise Unsent("no acknowledgement")

    def close(self) -> None:
        """Send what is left and take leave, for less than a second."""
        self._outbox.close()
        if self._connected.is_set():
            leave = self._client.publish(f"{self._topic}/status", "offline", qos=1, retain=True)
            with suppress(RuntimeError, ValueError):  # the broker says it when it is not told
                leave.wait_for_publish(0.2)
        # Without waiting for its thread, which may sit in an attempt to connect
        self._client.disconnect()


def level(name: str) -> str:
    """A name as one level of a topic."""
    return re.sub(r"[/+#\0\s]+", "-", name).strip("-") or "-"


def _parse(url: str) -> tuple[SplitResult, int]:
    """The address taken apart. Raises SinkError, which does not repeat it: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    topic = unquote(parts.path.strip("/"))
    if parts.scheme not in _PORTS or not parts.hostname or not topic or set(topic) & set("+#\0"):
        raise SinkError(
            "--mqtt is not a broker's address with a topic",
            "write mqtt://host/topic or mqtts://user:password@host:8883/topic, without + or # in the topic",
        )
    return parts, port or _PORTS[parts.scheme]
