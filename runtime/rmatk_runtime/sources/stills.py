"""Cameras that serve one picture per request (``http://HOST/snap.jpg``), polled at a steady rate.

Most network cameras have such an address, and the smallest (ESP32-CAM) hardly anything else. FFmpeg would
read one picture and report the end of the stream.
"""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np

from rmatk_runtime import __version__
from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.pictures.decode import decode_image
from rmatk_runtime.pictures.kinds import HEAD, kind_of
from rmatk_runtime.sources.live import Connection, Picture

RATE = 1.0
"""Pictures per second, unless ``--rate`` asks for another number."""
_LARGEST = 64 << 20  # bytes of one picture
_STREAMS = ("multipart/", "video/", "audio/", "application/vnd.apple.mpegurl", "application/x-mpegurl")
_FAILURES = (OSError, HTTPException)  # URLError and timeouts are OSErrors


class StillAddress:
    """An address that may answer with one picture per request; its credentials go into the request's head."""

    def __init__(self, uri: str, seconds: float) -> None:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
        self._url, self._seconds = urlunsplit(parts._replace(netloc=host, fragment="")), seconds
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if parts.username is not None:
            passwords.add_password(None, self._url, unquote(parts.username), unquote(parts.password or ""))
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)
        )

    def is_still(self) -> bool:
        """Does it answer with a single picture? Raises OSError, HTTPException."""
        with self._ask() as answer:
            kind = answer.headers.get_content_type().lower()
            if kind.startswith(_STREAMS):
                return False
            # What is not named, or wrongly, is told by its first bytes
            return bool(kind.startswith("image/") or kind_of(answer.read(HEAD)))

    def picture(self) -> bytes:
        """The current picture. Raises OSError, HTTPException."""
        with self._ask() as answer:
            data: bytes = answer.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise OSError(f"the picture is larger than {_LARGEST >> 20} MiB")
        return data

    def _ask(self) -> Any:
        request = urllib.request.Request(
            self._url, headers={"User-Agent": f"rmatk/{__version__}", "Cache-Control": "no-cache"}
        )
        return self._opener.open(request, timeout=self._seconds)


class StillConnection(Connection):
    """Polls an address; without a picture for ``seconds`` the camera is lost, whatever it answers."""

    def __init__(self, name: str, address: StillAddress, rate: float | None, seconds: float) -> None:
        self._name, self._address, self._seconds = name, address, seconds
        self._interval = 1 / (rate or RATE)
        self.rate = rate or RATE
        self._closing = threading.Event()
        try:
            self._first = address.picture()
        except _FAILURES as error:
            raise SourceError(f"cannot open {name}: {failure(error, seconds)}", hint(error)) from None
        try:
            height, width = self._decode(self._first).shape[:2]
        except DataError as error:
            raise SourceError(f"cannot open {name}: {error.message}", error.hint) from None
        self.size = (width, height)

    def __iter__(self) -> Iterator[Picture]:
        """Yield a picture at each beat; one that fails is asked for again at the next."""
        yield partial(self._decode, self._first)
        last = due = time.monotonic()
        while True:
            due = max(due + self._interval, time.monotonic() - self._interval)
            if self._closing.wait(max(0.0, due - time.monotonic())):
                return
            try:
                data = self._address.picture()
            except _FAILURES as error:
                if time.monotonic() - last >= self._seconds:
                    words = failure(error, self._seconds)
                    raise SourceError(f"lost {self._name}: {words}", hint(error)) from None
                continue
            last = time.monotonic()
            yield partial(self._decode, data)

    def _decode(self, data: bytes) -> UInt8:
        return np.asarray(decode_image(data, f"a picture of {self._name}"))

    def cancel(self) -> None:
        """End the wait for the next beat."""
        self._closing.set()

    def close(self) -> None:
        """Nothing is held between two requests."""
        self._closing.set()


def failure(error: Exception, seconds: float) -> str:
    """What went wrong, without the address."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        return f"the camera answers {error.code} {error.reason}"
    if isinstance(cause, TimeoutError):
        return f"no answer for {seconds:g} s: nothing is there, or it accepts and stays silent"
    return str(getattr(cause, "strerror", None) or cause or type(error).__name__)


def hint(error: Exception) -> str:
    """What to do about it."""
    words = failure(error, 0)
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        return "check user and password: http://USER:PASSWORD@HOST/PATH"
    if "CERTIFICATE" in words.upper():
        return "let Python know the camera's certificate: export SSL_CERT_FILE=camera.pem"
    return "check address, port and path, and that the camera is on: curl -v http://HOST/PATH"
