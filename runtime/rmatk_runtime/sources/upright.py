"""A decoded picture as it is to be shown: square pixels, upright, not mirrored."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from rmatk_runtime.arrays import UInt8

if TYPE_CHECKING:
    from av import VideoFrame

Matrix = tuple[int, int, int, int]
"""a, b, c, d of a display matrix: the point (x, y) is shown at (a x + c y, b x + d y), y downwards."""

_STRONGEST = 8  # times that a pixel may be wider than high; more is a damaged header


def square_pixels(pixels: UInt8, ratio: Fraction | None) -> UInt8:
    """(H, W, 3) uint8 stretched along one axis by the sample aspect ratio, so that no detail is lost."""
    height, width = pixels.shape[:2]
    size = shown_size((width, height), ratio)
    if size == (width, height):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def shown_size(size: tuple[int, int], ratio: Fraction | None) -> tuple[int, int]:
    """(width, height) with square pixels, of a picture whose pixels are ``ratio`` times as wide as high."""
    width, height = size
    if not ratio or ratio == 1 or not Fraction(1, _STRONGEST) <= ratio <= _STRONGEST:
        return size
    return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))


def upright(pixels: UInt8, matrix: Matrix) -> UInt8:
    """(H, W, 3) uint8, turned and mirrored by the nearest of the eight orientations: contiguous."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):  # x and y change places
        pixels, (a, d) = pixels.swapaxes(0, 1), (c, b)
    pixels = pixels[:, ::-1] if a < 0 else pixels
    pixels = pixels[::-1] if d < 0 else pixels
    return np.ascontiguousarray(pixels)


def display_matrix(frame: VideoFrame) -> Matrix:
    """How phones ask for a frame to be shown; the identity where it does not say."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d = (int(value) for value in np.frombuffer(cast("memoryview[int]", found), np.int32)[:5])
    return a, b, c, d
