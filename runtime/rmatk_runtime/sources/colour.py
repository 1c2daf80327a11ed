"""One conversion from decoded frames to RGB: the exact formula, with the same bytes on every processor.

FFmpeg's default conversion differs between x86-64 and ARM, and is up to two levels too dark. Here every value
is the formula of the frame's matrix and range (ITU-T H.273), rounded to the nearest level; each chroma sample
stands for all pixels that it covers. FFmpeg's scaler does it with the flags below, in vector code and in C
alike, but not for all frames; for the others NumPy does the same.

A frame that states no matrix is BT.601 up to 576 rows, BT.709 above. One that states no range is limited (16
to 235), except grey and the ``yuvj`` formats of JPEG, which are full. Transparency is laid on white, as of
photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from rmatk_runtime.arrays import UInt8

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.plane import VideoPlane

Samples = npt.NDArray[Any]
"""(rows, columns) of one plane, uint8 or uint16."""
SD_ROWS = 576
"""The most rows of a frame that is BT.601 where it states no matrix."""

BT601, BT709 = 5, 1  # numbers of H.273, as FFmpeg has them
WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
    9: (0.2627, 0.0593), 10: (0.2627, 0.0593),
}  # fmt: skip
"""Shares of red and blue in luma, by the number of the matrix."""

LIMITED, FULL = 1, 2
# swscale: POINT, FULL_CHR_H_INT, ACCURATE_RND, BITEXACT; by number, since PyAV 17 has no names for them
_EXACT = 1 << 4 | 1 << 13 | 1 << 18 | 1 << 19
_OVERFLOW = 511  # swscale computes with 9 bits before the point: what reaches 512 comes out black
_ROWS = 64  # at once: what NumPy works on stays in the processor's cache
_KINDS = {(1, 1): "yuv444p", (1, 2): "yuv422p", (2, 2): "yuv420p"}
"""FFmpeg's formats by rows and columns that share a chroma sample."""
_PACKED = {
    "yuyv422": ((0, 2), (1, 4), (3, 4)),
    "uyvy422": ((1, 2), (0, 4), (2, 4)),
    "yvyu422": ((0, 2), (3, 4), (1, 4)),
}
"""Where luma and both chroma samples begin in a row of the only plane, and how far the next ones are."""
_PAIRED = {"nv12": 0, "nv21": 0, "nv16": 0, "nv24": 0, "nv42": 0, "p010le": 6, "p210le": 6, "p410le": 6}
"""Formats whose second plane holds both chroma samples in turn, with the bits that samples stand too high."""


def matrix_of(stated: int, height: int) -> int:
    """The number of the matrix (H.273) of a frame with ``height`` rows that states ``stated``."""
    if stated in WEIGHTS:
        return stated
    return BT601 if height <= SD_ROWS else BT709


def is_full(stated: int, kind: str) -> bool:
    """Whether luma reaches from 0 to 255 in a frame of FFmpeg's format ``kind`` that states ``stated``."""
    return kind.startswith("yuvj") or stated == FULL or (stated != LIMITED and kind.startswith("gray"))


def to_rgb(frame: VideoFrame) -> UInt8:
    """A decoded frame as (H, W, 3) uint8 RGB."""
    kind = frame.format
    if kind.has_palette or any(part.is_alpha for part in kind.components):
        return _on_white(frame)
    if not kind.name.startswith(("yuv", "gray")) and kind.name not in _PACKED and kind.name not in _PAIRED:
        return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
    matrix, full = matrix_of(int(frame.colorspace), frame.height), is_full(int(frame.color_range), kind.name)
    bits = kind.components[0].bits
    planes = planes_of(frame)
    if _scaler_is_exact(planes, matrix, full=full, bits=bits):
        return _by_scaler(_bare(frame), matrix, full=full)
    return yuv_to_rgb(planes, matrix, full=full, bits=bits)


def planes_to_rgb(planes: Sequence[Samples], matrix: int, *, full: bool) -> UInt8:
    """8-bit planes, luma (H, W) and any chroma, as (H, W, 3) uint8 RGB; by FFmpeg where it is installed."""
    shapes = [plane.shape for plane in planes]
    kind = _KINDS.get(tuple(-(-of // part) for of, part in zip(shapes[0], shapes[-1], strict=True)))
    exact = _scaler_is_exact(planes, matrix, full=full, bits=8)
    if kind is None or not exact or find_spec("av") is None:
        return yuv_to_rgb(planes, matrix, full=full)
    from av import VideoFrame

    frame = VideoFrame(shapes[0][1], shapes[0][0], kind)
    for target, plane in zip(frame.planes, planes, strict=True):
        _rows(target)[:, : plane.shape[1]] = plane
    return _by_scaler(frame, matrix, full=full)


def planes_of(frame: VideoFrame) -> Sequence[Samples]:
    """Luma, chroma, alpha where there is any; of RGB formats their planes in FFmpeg's order.

    Each is (rows, columns) uint8 or uint16, without padding.
    """
    name, parts = frame.format.name, frame.format.components
    dtype = np.uint8 if parts[0].bits <= 8 else np.dtype(">u2" if name.endswith("be") else "<u2")
    planes: list[Samples] = [_rows(plane).view(dtype) for plane in frame.planes]
    if name in _PACKED:
        planes = [planes[0][:, first::step] for first, step in _PACKED[name]]
    elif name in _PAIRED:
        first = name in ("nv21", "nv42")
        planes = [planes[0], planes[1][:, first::2], planes[1][:, not first :: 2]]
        planes = [plane >> _PAIRED[name] for plane in planes] if _PAIRED[name] else planes
    return [plane[:, : part.width] for plane, part in zip(planes, parts, strict=True)]


def _scaler_is_exact(planes: Sequence[Samples], matrix: int, *, full: bool, bits: int) -> bool:
    """Whether swscale is exact: whole chroma samples, no sum that overflows, no full range of many bits."""
    if len(planes) != 3 or matrix == 10 or (full and bits > 8):
        return False
    if any(side % part for side, part in zip(planes[0].shape, planes[1].shape, strict=True)):
        return False
    if full:
        return True
    blue = WEIGHTS[matrix][1]
    unit = 1 << (bits - 8)
    luma, chroma = int(planes[0].max()) / unit - 16, int(planes[1].max()) / unit - 128
    return luma * 255 / 219 + 2 * (1 - blue) * chroma * 255 / 224 < _OVERFLOW


def _by_scaler(frame: VideoFrame, matrix: int, *, full: bool) -> UInt8:
    converted = frame.reformat(
        format="gbrp",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=_EXACT,
        src_color_range=FULL if full else LIMITED,
        dst_color_range=FULL,
    )
    rgb = np.empty((frame.height, frame.width, 3), np.uint8)
    green, blue, red = planes_of(converted)
    for channel, plane in enumerate((red, green, blue)):
        rgb[..., channel] = plane
    return rgb


def _bare(frame: VideoFrame) -> VideoFrame:
    """A copy of the samples alone: where a frame says how chroma is placed, swscale would shift it."""
    copy = type(frame)(frame.width, frame.height, frame.format.name)
    for target, plane in zip(copy.planes, frame.planes, strict=True):
        size = min(plane.line_size, target.line_size)
        _rows(target)[:, :size] = _rows(plane)[:, :size]
    return copy


def _rows(plane: VideoPlane) -> UInt8:
    """(rows, bytes) of a plane, padding included; shares its memory."""
    data = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]
    return cast(UInt8, data.reshape(-1, plane.line_size)[: plane.height])


def yuv_to_rgb(planes: Sequence[Samples], matrix: int, *, full: bool, bits: int = 8) -> UInt8:
    """The formula itself.

    Args:
        planes: luma (H, W), then both chroma planes, of any subsampling; or luma alone, which is grey.
        matrix: of :data:`WEIGHTS`.
        full: whether the range is full.
        bits: per sample.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    luma = planes[0]
    height, width = luma.shape
    unit = 1 << (bits - 8)
    black, white, swing = (0, 256 * unit - 1, 256 * unit - 1) if full else (16 * unit, 219 * unit, 224 * unit)
    red, blue = WEIGHTS[matrix]
    green = 1 - red - blue
    factors = (  # of both chroma planes, in each channel
        (0.0, 2 * (1 - red)),
        (-2 * (1 - blue) * blue / green, -2 * (1 - red) * red / green),
        (2 * (1 - blue), 0.0),
    )
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height))
        grey = (luma[rows].astype(np.float32) - np.float32(black)) * np.float32(255 / white)
        if len(planes) == 1:
            rgb[rows] = np.rint(grey.clip(0, 255)).astype(np.uint8)[..., None]
            continue
        parts = [_spread(plane, rows, (height, width)) for plane in planes[1:3]]
        parts = [part.astype(np.float32) - np.float32(128 * unit) for part in parts]
        for channel, weights in enumerate(factors):
            value = grey.copy()
            for part, weight in zip(parts, weights, strict=True):
                if weight:
                    value += part * np.float32(weight * 255 / swing)
            rgb[rows, :, channel] = np.rint(value.clip(0, 255))
    return rgb


def _spread(plane: Samples, rows: slice, size: tuple[int, int]) -> Samples:
    """The samples of a chroma plane for ``rows`` of a picture of ``size`` (height, width): one per pixel."""
    down, across = -(-size[0] // plane.shape[0]), -(-size[1] // plane.shape[1])
    wanted = np.arange(rows.start, rows.stop) // down
    chosen: Samples = plane[wanted]
    return chosen if across == 1 else np.repeat(chosen, across, axis=1)[:, : size[1]]


def _on_white(frame: VideoFrame) -> UInt8:
    """A frame with transparency or a palette."""
    matrix = matrix_of(int(frame.colorspace), frame.height)
    name = frame.format.name
    if name.startswith("yuva"):
        bits = frame.format.components[0].bits
        *colours, alpha = planes_of(frame)
        rgb = yuv_to_rgb(colours, matrix, full=is_full(int(frame.color_range), name), bits=bits)
        opacity = np.rint(alpha * (255 / ((1 << bits) - 1))).astype(np.uint8)
        picture = Image.fromarray(np.dstack((rgb, opacity)))
    else:
        picture = Image.fromarray(np.ascontiguousarray(frame.to_ndarray(format="rgba")))
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
