"""What video files, cameras and the video sink share of PyAV (FFmpeg's libraries; extra ``camera``)."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import MissingExtraError
from rmatk_runtime.sources.colour import to_rgb
from rmatk_runtime.sources.upright import display_matrix, square_pixels, upright

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# What FFmpeg calls pictures that belong to a file but are not its video: covers, thumbnails at chapters
_STILLS = 0x400 | 0x800
_DEFAULT = 0x1


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


def file_name(path: Path) -> str | IO[bytes]:
    """A path as FFmpeg takes it: never as an address, whatever colons it holds; opened where not UTF-8."""
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return path.open("rb")
    return f"file:{name}"


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Its videos, best first: the one marked as default, then the largest. Covers and thumbnails are none."""
    videos = [stream for stream in container.streams.video if not int(stream.disposition) & _STILLS]
    return sorted(videos, key=lambda one: (not int(one.disposition) & _DEFAULT, -one.width * one.height))


def report_damage(stream: VideoStream) -> None:
    """Have damage reported by codecs whose pictures stand alone; others conceal it and mark the picture."""
    if stream.codec_context.codec.intra_only:
        stream.codec_context.options = {"err_detect": "explode"}


def pixel_ratio(stream: VideoStream) -> Fraction | None:
    """How many times its pixels are as wide as high; None where it does not say."""
    for ratio in (stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio):
        if ratio is not None and float(ratio):  # PyAV 19 says 0:1 for None, in a type of its own
            return Fraction(ratio.numerator, ratio.denominator)
    return None


def to_rgb_array(picture: VideoFrame, ratio: Fraction | None = None) -> UInt8:
    """A decoded picture as (H, W, 3) uint8 RGB as it is to be shown: upright, with square pixels."""
    return upright(square_pixels(to_rgb(picture), ratio), display_matrix(picture))


def reason(error: Exception) -> str:
    """What FFmpeg says went wrong, without the address: its own messages repeat it, password included."""
    code = getattr(error, "errno", None)
    return getattr(error, "strerror", None) or (os.strerror(code) if code else type(error).__name__)
