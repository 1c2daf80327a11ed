"""Cameras of the machine, through PyAV."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.errors import SourceError
from rmatk_runtime.sources.av_connection import AvConnection
from rmatk_runtime.sources.base import Source
from rmatk_runtime.sources.live import LiveSource
from rmatk_runtime.sources.options import SourceOptions
from rmatk_runtime.sources.pyav import import_av

if TYPE_CHECKING:
    from av.container import InputContainer

_HINT = "check cable, address and permission: rmatk doctor lists the cameras found"


def open_camera(uri: str, options: SourceOptions) -> Source:
    """``0``, ``/dev/video0`` or ``v4l2://dev/video0``.

    Raises:
        SourceError: not there, not to be opened, no video, or an option that it does not have.
        MissingExtraError: PyAV is not installed.
    """
    options.check("camera", uri)
    opener = partial(_open_device, uri, options)
    return LiveSource(uri, partial(AvConnection, uri, opener, options.timeout, _HINT), options)


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
