"""Posts results to a web address as JSON."""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from rmatk_runtime import __version__
from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.changes import Changes, Publish
from rmatk_runtime.sinks.outbox import Outbox, Refused, Unsent

SECONDS = 5.0
"""Without an answer for so long a message counts as unsent."""

_TRY_AGAIN = (408, 425, 429)


class WebhookSink(Sink):
    """Posts ``Prediction.as_record`` to ``http(s)://[USER:PASSWORD@]HOST[:PORT]/PATH``.

    An answer of 2xx is success; 408, 425, 429 and 5xx are tried again, as is silence; any other is a refusal.
    Redirections are not followed: that would carry the password elsewhere.
    """

    def __init__(self, url: str, publish: Publish = "change") -> None:
        parts, port = _parse(url)
        host = str(parts.hostname)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=SECONDS, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": f"rmatk/{__version__}"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
        self._changes = Changes(publish)
        # Paths of webhooks are often secrets themselves
        self._outbox = Outbox(f"{parts.scheme}://{host}" + (f":{port}" if port else ""), self._post)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Queue one result; never waits for the network."""
        if self._changes.wants(prediction):
            self._outbox.put(msgspec.json.encode(prediction.as_record(frame)))

    def close(self) -> None:
        """Send what is left, for less than a second."""
        self._outbox.close()

    def _post(self, message: bytes) -> None:
        """Send one message, on the connection of the last where that still stands."""
        kept = self._connection.sock is not None
        try:
            status = self._exchange(message)
        except (ConnectionError, http.client.HTTPException) as error:
            if not kept:
                raise Unsent(error) from error
            try:  # a server closes what has been idle for some seconds; that is no failure of the network
                status = self._exchange(message)
            except (OSError, http.client.HTTPException) as again:
                raise Unsent(again) from again
        except OSError as error:
            raise Unsent(error) from error
        if status in _TRY_AGAIN or status >= 500:
            raise Unsent(f"it answers {status}")
        if not 200 <= status < 300:
            raise Refused(f"it answers {status}")

    def _exchange(self, message: bytes) -> int:
        try:
            self._connection.request("POST", self._path, message, self._headers)
            answer = self._connection.getresponse()
            answer.read()
        except BaseException:
            self._connection.close()
            raise
        return answer.status


def _parse(url: str) -> tuple[SplitResult, int | None]:
    """The address taken apart. Raises SinkError, which does not repeat it: it may hold a password."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts, parts.port
    except ValueError:
        pass
    raise SinkError(
        "--webhook is not a web address", "write https://host/path or https://user:password@host/path"
    )
