"""Posts results to a web address as JSON."""

from __future__ import annotations

import base64
import http.client
import re
import secrets
import ssl
from collections.abc import Iterable, Mapping
from string import Template
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from rmatk_runtime import __version__
from rmatk_runtime.errors import SinkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.changes import Changes, Publish
from rmatk_runtime.sinks.jpeg import encode_jpeg
from rmatk_runtime.sinks.outbox import Outbox, Refused, Unsent

SECONDS = 5.0
"""Without an answer for so long a message counts as unsent."""

_LONGEST_ANSWER = 64 << 10  # bytes that are read
_LONGEST_SIDE = 1280  # of the picture sent
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_TRY_AGAIN = (408, 425, 429)


class WebhookSink(Sink):
    """Posts ``Prediction.as_record`` to ``http(s)://[USER:PASSWORD@]HOST[:PORT]/PATH``.

    An answer of 2xx is success; 408, 425, 429 and 5xx are tried again, as is silence; any other is a refusal.
    Redirections are not followed: that would carry the password elsewhere.

    ``headers``: sent with each request. ``picture``: sends a form with the record in the field ``result`` and
    the picture as JPEG in the field ``picture``.
    """

    def __init__(
        self,
        url: str,
        publish: Publish = "change",
        *,
        headers: Mapping[str, str] | None = None,
        picture: bool = False,
    ) -> None:
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
        self._boundary = secrets.token_hex(16) if picture else None
        kind = f"multipart/form-data; boundary={self._boundary}" if picture else "application/json"
        self._headers = {"Content-Type": kind, "User-Agent": f"rmatk/{__version__}"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
        self._headers |= headers or {}
        self._changes = Changes(publish)
        # Paths of webhooks are often secrets themselves
        self._outbox = Outbox(f"{parts.scheme}://{host}" + (f":{port}" if port else ""), self._post)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Queue one result; never waits for the network."""
        if self._changes.wants(frame, prediction):
            record = msgspec.json.encode(prediction.as_record(frame))
            self._outbox.put(record if self._boundary is None else self._form(record, frame))

    def _form(self, record: bytes, frame: Frame) -> bytes:
        """The record and the picture as the fields of a form."""
        picture = encode_jpeg(frame.image, quality=85, longest=_LONGEST_SIDE)
        parts = (
            ("result", "result.json", "application/json", record),
            ("picture", "picture.jpg", "image/jpeg", picture),
        )
        body = b"".join(
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
            f"Content-Type: {kind}\r\n\r\n".encode()
            + data
            + b"\r\n"
            for name, file, kind, data in parts
        )
        return body + f"--{self._boundary}--\r\n".encode()

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
            if len(answer.read(_LONGEST_ANSWER)) == _LONGEST_ANSWER:  # only the status counts
                self._connection.close()
        except BaseException:
            self._connection.close()
            raise
        return answer.status


def parse_headers(lines: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """``Name: value`` as headers; ``$NAME`` in a value stands for a variable of the environment.

    Raises:
        SinkError: something else, or a variable that is not set; values are not repeated: they are secrets.
    """
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name.strip()):
            raise SinkError("--webhook-header is not a header", "write 'Authorization: Bearer $TOKEN'")
        try:
            value = Template(value.strip()).substitute(environment)
        except KeyError as error:
            raise SinkError(
                f"--webhook-header {name}: the variable {error.args[0]} is not set",
                f"export {error.args[0]}=...",
            ) from None
        except ValueError:
            raise SinkError(f"--webhook-header {name}: a $ names no variable", "write $$ for one $") from None
        if not value.isprintable() or not value.isascii():
            raise SinkError(
                f"--webhook-header {name}: the value holds what no header can", "use ASCII on one line"
            )
        headers[name.strip()] = value
    return headers


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
