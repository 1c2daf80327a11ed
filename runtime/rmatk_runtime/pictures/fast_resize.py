"""A cheap way from a camera's frame to the network's size, beside the exact one.

A full-size bicubic resize reads each pixel many times. Here rows are averaged in NumPy and columns by
Pillow's ``reduce`` until little more than twice the network's size is left, and only what is kept is resized.
Of frames above 8 times the network's size not every row is read. With cykooz-resizer (the extra
``fast``) frames up to 6 times the network's size are resized without averaging, faster and closer to the
exact way. What it all changes is measured by ``rmatk parity``.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.pictures.modes import to_rgb
from rmatk_runtime.pictures.preprocess import (
    RESAMPLING,
    PreprocessSpec,
    centred,
    kept_box,
    resized_size,
    with_margin,
)

Resizing = Literal["exact", "fast"]
"""Which way is taken to the network's size."""

_COLUMNS_PER_OUTPUT = 2.0
_MOST_AVERAGED = 4
_CHUNK = 32  # rows
_FURTHEST_FOR_EXTRA = 6


@cache
def has_extra() -> bool:
    """Whether cykooz-resizer is installed."""
    return importlib.util.find_spec("cykooz_resizer") is not None


def describe(resizing: Resizing) -> str:
    """The way that is taken here, for summaries: ``exact``, ``fast``, ``fast (cykooz-resizer)``."""
    return "fast (cykooz-resizer)" if resizing == "fast" and has_extra() else resizing


def draft_size(spec: PreprocessSpec) -> tuple[int, int]:
    """(width, height) to which a JPEG may be reduced as it is decoded, before :func:`fast_resize`."""
    return int(_COLUMNS_PER_OUTPUT * spec.width), int(_COLUMNS_PER_OUTPUT * spec.height)


def fast_resize(image: Image.Image | UInt8, spec: PreprocessSpec) -> UInt8:
    """As :func:`~rmatk_runtime.pictures.preprocess.resize`, a few levels of 255 away from it.

    Args:
        image: a Pillow image, or a frame (H, W, 3) uint8 RGB.
        spec: the target size and manner.

    Returns:
        (spec.height, spec.width, 3) uint8 RGB.
    """
    pixels = image if isinstance(image, np.ndarray) else np.asarray(to_rgb(image, spec.stretch))
    height, width, _ = pixels.shape
    size, box = (spec.width, spec.height), (0.0, 0.0, float(width), float(height))
    if spec.resize_mode == "shortest":
        box = kept_box((width, height), spec)
    elif spec.resize_mode == "longest":
        size = resized_size((width, height), spec)
    x0, x1 = with_margin(box[0], box[2], width, size[0])
    y0, y1 = with_margin(box[1], box[3], height, size[1])
    part = pixels[y0:y1, x0:x1]
    box = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
    small = (box[3] - box[1]) < _FURTHEST_FOR_EXTRA * size[1]
    if small and spec.interpolation == "bicubic" and has_extra():
        resized = Image.fromarray(_with_extra(part, box, size))
    else:
        resized = _averaged(part, box, size, RESAMPLING[spec.interpolation])
    return np.asarray(centred(resized, spec) if spec.resize_mode == "longest" else resized)


def _averaged(
    part: UInt8, box: tuple[float, float, float, float], size: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """``box`` of ``part`` resized to (width, height), after averaging."""
    down = (box[3] - box[1]) / size[1]
    averaged, step = _rows_to_average(down)
    rows = averaged * step
    columns = max(1, int((box[2] - box[0]) / size[0] / _COLUMNS_PER_OUTPUT))
    picture = Image.fromarray(_mean_of_rows(part, averaged, step))
    if columns > 1:
        picture = picture.reduce((columns, 1))
    left, right = box[0] / columns, min(box[2] / columns, picture.width)
    shift = (step // 2 - (step - 1) / 2) / rows  # of the rows read against the middle of each block
    top, bottom = max(0.0, box[1] / rows - shift), min(box[3] / rows - shift, picture.height)
    picture = picture.resize((size[0], picture.height), resample, (left, 0, right, picture.height))
    if averaged == _MOST_AVERAGED:  # what the mean has blurred, a sharper filter restores in part
        resample = Image.Resampling.LANCZOS
    return picture.resize(size, resample, (0, top, size[0], bottom))


def _rows_to_average(down: float) -> tuple[int, int]:
    """Where ``down`` rows become one: how many are averaged at first, and every how many-th row is read."""
    if down < 4:
        return 1, 1
    if down < 8:
        return (_MOST_AVERAGED, 1) if down >= 4.8 else (2, 1)
    return 2, int(down / 3.2)


def _mean_of_rows(part: UInt8, averaged: int, step: int) -> UInt8:
    """Each block of ``averaged * step`` rows -> the mean of every ``step``-th of them.

    Means of two are rounded up and down by turns, so that brightness stays: columns are rounded up later.
    """
    rows = averaged * step
    count = len(part) // rows
    if rows == 1:
        return np.ascontiguousarray(part)
    blocks = part[: count * rows].reshape(count, rows, -1)
    whole = np.empty((count, *part.shape[1:]), np.uint8)
    for start in range(0, count, _CHUNK):  # few enough at once that all of them stay in the cache
        chunk = blocks[start : start + _CHUNK]
        means = [chunk[:, row] for row in range(step // 2, rows, step)]
        while len(means) > 1:
            up = len(means) > 2
            means = [_mean(means[n], means[n + 1], up=up and n % 4 == 0) for n in range(0, len(means), 2)]
        whole[start : start + _CHUNK] = means[0].reshape(-1, *part.shape[1:])
    if count * rows == len(part):
        return whole
    rest = part[count * rows :].mean(axis=0).round().astype(np.uint8)  # a last block of fewer rows
    return np.concatenate((whole, rest[None]))


def _mean(first: UInt8, second: UInt8, *, up: bool) -> UInt8:
    """Of each two bytes, without wider integers; halves rounded up or down."""
    half = first ^ second
    half >>= 1
    mean: UInt8 = first | second if up else first & second
    if up:
        mean -= half
    else:
        mean += half
    return mean


def _with_extra(part: UInt8, box: tuple[float, float, float, float], size: tuple[int, int]) -> UInt8:
    """``box`` of ``part`` resized to (width, height); Catmull-Rom is what Pillow calls bicubic."""
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

    source = ImageData(part.shape[1], part.shape[0], PixelType.U8x3, part.tobytes())
    target = ImageData(*size, PixelType.U8x3)
    options = ResizeOptions(
        resize_alg=ResizeAlg.convolution(FilterType.catmull_rom),
        use_alpha=False,
        crop_box=CropBox(box[0], box[1], box[2] - box[0], box[3] - box[1]),
    )
    Resizer().resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size[1], size[0], 3)
