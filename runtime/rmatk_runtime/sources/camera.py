"""Cameras of the machine and streams from the network, through PyAV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.errors import SourceError
from rmatk_runtime.sources.base import Source
from rmatk_runtime.sources.credentials import without_credentials
from rmatk_runtime.sources.live import Connection, LiveSource, Picture
from rmatk_runtime.sources.options import SourceOptions
from rmatk_runtime.sources.pyav import import_av, reason, to_rgb_array

if TYPE_CHECKING:
    from av.container import InputContainer

# Half a second of looking at the stream is enough; FFmpeg's own choice takes two, to measure a rate. No
# "nobuffer": it throws away what was read meanwhile, and with it the first key frame.
_STREAM = {"analyzeduration": "500000", "fpsprobesize": "0"}
_RTSP = {"rtsp_transport": "tcp", **_STREAM}  # UDP loses packets behind routers
_LOST = "check cable, power and network"
_DEVICE_HINT = "check cable, address and permission: rmatk doctor lists the cameras found"
_STREAM_HINT = "check address, port, user and password: {}://USER:PASSWORD@HOST:PORT/PATH"


def open_camera(uri: str, options: SourceOptions) -> Source:
    """``0``, ``/dev/video0``, ``v4l2://dev/video0``, ``rtsp://...`` or ``http://...``.

    Raises:
        SourceError: not there, not to be opened, no video, or an option that it does not have.
        MissingExtraError: PyAV is not installed.
    """
    name = without_credentials(uri)
    if "://" in uri and not uri.lower().startswith("v4l2://"):
        options.check("stream", name)
        opener, hint = partial(_open_stream, uri, options), _STREAM_HINT.format(uri.partition("://")[0])
    else:
        options.check("camera", name)
        opener, hint = partial(_open_device, uri, options), _DEVICE_HINT
    return LiveSource(name, partial(AvConnection, name, opener, options.timeout, hint), options)


class AvConnection(Connection):
    """What FFmpeg reads; ``seconds`` without a picture are a loss, ``hint`` is for what cannot be opened."""

    def __init__(self, name: str, opener: Callable[[], InputContainer], seconds: float, hint: str) -> None:
        self._av = import_av()
        self._name, self._seconds = name, seconds
        try:
            self._container = opener()
        except (self._av.FFmpegError, OSError) as error:
            # From None: FFmpeg's error repeats the address with its password, and --debug prints the chain.
            raise SourceError(f"cannot open {name}: {reason(error)}", hint) from None
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise SourceError(f"{name} carries no video", "check the address of the stream")
        self._stream = streams[0]
        rate = self._stream.average_rate
        self.size = (self._stream.width, self._stream.height) if self._stream.width else None
        self.rate = float(rate) if rate else None

    def __iter__(self) -> Iterator[Picture | None]:
        """Yield pictures; a packet damaged on its way is passed over, a silence is a loss."""
        last = time.monotonic()
        try:
            for packet in self._container.demux(self._stream):
                try:
                    pictures = packet.decode()
                except self._av.InvalidDataError:
                    pictures = []
                    yield None
                for picture in pictures:
                    yield partial(to_rgb_array, picture)
                now = time.monotonic()
                last = now if pictures else last
                if now - last > self._seconds:
                    raise SourceError(f"lost {self._name}: no picture for {self._seconds:g} s", _LOST)
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(f"lost {self._name}: {reason(error)}", _LOST) from None
        raise SourceError(f"lost {self._name}: it ended", _LOST)

    def close(self) -> None:
        """Release the camera."""
        self._container.close()


def _open_stream(uri: str, options: SourceOptions) -> InputContainer:
    settings = _RTSP if uri.lower().startswith("rtsp") else _STREAM
    timeout = (options.timeout, options.timeout)
    container: InputContainer = import_av().open(uri, options=settings, timeout=timeout)
    if settings is _STREAM and container.duration is not None:
        container.close()
        raise SourceError(
            f"{without_credentials(uri)} is a file, not a camera",
            "download it and give its path: no frame of a file is dropped",
        )
    return container


def _open_device(uri: str, options: SourceOptions) -> InputContainer:
    device, settings = _device(uri)
    if not device.exists():
        found = ", ".join(map(str, sorted(Path("/dev").glob("video*")))) or "none"
        raise SourceError(f"no camera at {device}; found: {found}", "plug one in, or try --camera test://")
    if options.size is not None:
        settings["video_size"] = "{}x{}".format(*options.size)
    if options.rate is not None:
        settings["framerate"] = f"{options.rate:g}"
    timeout = (options.timeout, options.timeout)
    container: InputContainer = import_av().open(
        str(device), format="v4l2", options=settings, timeout=timeout
    )
    return container


def _device(uri: str) -> tuple[Path, dict[str, str]]:
    """``0``, ``/dev/video0`` and ``v4l2://dev/video0?format=mjpeg`` as a path, and what to tell FFmpeg."""
    if uri.isdecimal():
        return Path(f"/dev/video{uri}"), {}
    if "://" not in uri:
        return Path(uri), {}
    path, _, query = uri.partition("://")[2].partition("?")
    key, _, value = query.partition("=")
    if query and (key != "format" or not value.isidentifier()):
        raise SourceError(f"{uri}: the only option of v4l2:// is format", "v4l2://dev/video0?format=mjpeg")
    return Path("/" + path.lstrip("/")), {"input_format": value} if value else {}
