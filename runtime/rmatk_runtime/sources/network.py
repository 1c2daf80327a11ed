"""Streams from the network, by FFmpeg, and cameras that serve single pictures."""

from __future__ import annotations

import logging
import time
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.errors import SourceError
from rmatk_runtime.sources import stills
from rmatk_runtime.sources.av_connection import AvConnection
from rmatk_runtime.sources.base import Source
from rmatk_runtime.sources.credentials import without_credentials
from rmatk_runtime.sources.live import Connection, LiveSource
from rmatk_runtime.sources.options import SourceOptions
from rmatk_runtime.sources.pyav import import_av

if TYPE_CHECKING:
    from av.container import InputContainer

log = logging.getLogger(__name__)

SCHEMES = (
    *("rtsp", "rtsps", "http", "https", "udp", "rtp", "srtp", "tcp", "tls"),
    *("rtmp", "rtmps", "rtmpt", "rtmpts", "srt", "rist", "mmsh", "mmst"),
)
"""What FFmpeg can be built to read; which of them this one was built with is seen when one is opened."""

# Half a second of looking at the stream is enough; FFmpeg's own choice takes two, to measure a rate. No
# "nobuffer": it throws away what was read meanwhile, and with it the first key frame.
_LOOK = {"analyzeduration": "500000", "fpsprobesize": "0"}
_LOGIN = "check address, port, user and password: {scheme}://USER:PASSWORD@HOST:PORT/PATH"
_PLACE = "check address and port, and that the sender is running"
_GSTREAMER = {
    "srt": "srtsrc uri=srt://HOST:PORT",
    "rist": "ristsrc address=HOST port=PORT ! rtpmp2tdepay",
}


def is_description(uri: str) -> bool:
    """Is it an SDP file, which describes an RTP stream?"""
    return uri.lower().endswith(".sdp") and Path(uri).is_file()


def open_network(uri: str, options: SourceOptions) -> Source:
    """An address of :data:`SCHEMES`, or a file ``*.sdp``.

    Raises:
        SourceError: not to be opened, silent, no video, a protocol that FFmpeg lacks, or an option that a
            stream does not have.
        MissingExtraError: PyAV is not installed.
    """
    name = without_credentials(uri)
    options.check("stream", name)
    return LiveSource(name, partial(_connect, uri, name, options), options)


def _connect(uri: str, name: str, options: SourceOptions) -> Connection:
    """One connection: to a stream, or to a camera that serves single pictures."""
    scheme = uri.partition("://")[0].lower()
    if scheme in ("http", "https"):
        address = stills.StillAddress(uri, options.timeout)
        if _serves_stills(address, name, options.timeout):
            log.info("%s serves single pictures: one is taken %s", name, _beat(options.rate))
            return stills.StillConnection(name, address, options.rate, options.timeout)
    hint = (_LOGIN if scheme in ("http", "https", "rtsp", "rtsps") else _PLACE).format(scheme=scheme)
    return AvConnection(name, partial(_open, uri, name, scheme, options), options.timeout, hint)


def _serves_stills(address: stills.StillAddress, name: str, seconds: float) -> bool:
    """Does the camera serve single pictures? Raises SourceError where it is silent."""
    start = time.monotonic()
    try:
        return address.is_still()
    except (OSError, HTTPException, ValueError) as error:
        if time.monotonic() - start >= seconds:
            words = stills.failure(error, seconds)
            raise SourceError(f"cannot open {name}: {words}", stills.hint(error)) from None
        log.debug("%s: %s", name, stills.failure(error, seconds))
        return False  # FFmpeg has the last word


def _beat(rate: float | None) -> str:
    rate = rate or stills.RATE
    return "every second (--rate)" if rate == 1 else f"{rate:g} times a second"


def _open(uri: str, name: str, scheme: str, options: SourceOptions) -> InputContainer:
    av = import_av()
    timeout = (options.timeout, options.timeout)
    try:
        container: InputContainer = av.open(uri, options=_settings(uri, scheme), timeout=timeout)
    except av.error.ProtocolNotFoundError:
        raise SourceError(
            f"cannot open {name}: the FFmpeg in PyAV {av.__version__} was built without {scheme}",
            f"let GStreamer read it: --camera 'gst:{_GSTREAMER[scheme]} ! decodebin'"
            if scheme in _GSTREAMER
            else "let another program turn it into a stream that can be read: rtsp, http, udp, rtp, rtmp",
        ) from None
    if container.format.name.endswith("_pipe"):  # FFmpeg's readers of single pictures
        container.close()
        raise SourceError(
            f"{name} serves single pictures, and Python cannot ask for them",
            "https: export SSL_CERT_FILE=camera.pem, the camera's certificate",
        )
    if scheme in ("http", "https") and container.duration is not None:
        container.close()
        raise SourceError(
            f"{name} is a file, not a camera", "download it and give its path: no frame of a file is dropped"
        )
    return container


def _settings(uri: str, scheme: str) -> dict[str, str]:
    """Options of FFmpeg for a scheme."""
    if scheme.startswith("rtsp"):
        return {**_LOOK, "rtsp_flags": "prefer_tcp"}  # UDP loses packets, but some cameras have nothing else
    if scheme in ("udp", "rtp", "srtp"):
        # A full buffer costs some pictures, not the stream
        return {**_LOOK, "overrun_nonfatal": "1", "fifo_size": "50000"} if scheme == "udp" else _LOOK
    if is_description(uri):
        return {**_LOOK, "protocol_whitelist": "file,crypto,rtp,srtp,udp"}
    return _LOOK
