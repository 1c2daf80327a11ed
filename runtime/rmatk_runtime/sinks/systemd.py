"""Notifies systemd that the service runs: the protocol of sd_notify(3), one datagram per message.

With ``Type=notify`` and ``WatchdogSec=`` systemd restarts a service whose engine or output hangs. A lost
camera is not a hang: reconnection is tried, and systemd is notified of that.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sources.base import Source, SourceState

_INTERVAL = 1.0  # seconds between two signs of life


class SystemdSink(Sink):
    """``READY=1`` at once; ``WATCHDOG=1`` while results come or the source is known to be away; ``STATUS=``.

    Args:
        address: of the socket, from the environment's ``NOTIFY_SOCKET``; ``@`` stands for an abstract one.
        source: asked for its state.
    """

    def __init__(self, address: str, source: Source) -> None:
        self._source = source
        self._said = -_INTERVAL
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._send("READY=1")

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Say that a result has come."""
        self._live(prediction.label or "unsure")

    def idle(self) -> None:
        """Say that the camera is away, if it is."""
        if not any(camera.state is SourceState.LIVE for camera in self._source.cameras.values()):
            self._live("no picture")

    def close(self) -> None:
        """Say that the service is ending."""
        self._send("STOPPING=1")
        self._socket.close()

    def _live(self, what: str) -> None:
        if time.monotonic() - self._said >= _INTERVAL:
            self._said = time.monotonic()
            states = dict.fromkeys(camera.state.value for camera in self._source.cameras.values())
            self._send(f"WATCHDOG=1\nSTATUS={', '.join(states)}: {' '.join(what.split())}")

    def _send(self, message: str) -> None:
        with suppress(OSError):  # systemd itself is gone, or busy: neither is this run's affair
            self._socket.sendto(message.encode(), self._address)
