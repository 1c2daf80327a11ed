"""PyAV functions shared by video files, cameras and the video sink (FFmpeg; extra ``camera``)."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, cast

import numpy as np

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import MissingExtraError

if TYPE_CHECKING:
    from av import VideoFrame


def import_av() -> ModuleType:
    """The module ``av``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("PyAV, which reads and writes video,", "camera") from error
    return av


def to_rgb_array(picture: VideoFrame) -> UInt8:
    """A decoded picture as (H, W, 3) uint8 RGB, upright: the display matrix of phones is applied."""
    pixels = cast(UInt8, picture.to_ndarray(format="rgb24"))
    turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def reason(error: Exception) -> str:
    """What FFmpeg says went wrong, without the address: its own messages repeat it, password included."""
    return getattr(error, "strerror", None) or type(error).__name__
