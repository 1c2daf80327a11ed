"""Queries a V4L2 device's formats, sizes and rates with the ioctls of linux/videodev2.h.

A webcam shows up as two or more ``/dev/video*``, of which one gives pictures; and in the raw format, which is
the default, many give their full size at five frames per second only. Both are worth knowing.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

_QUERYCAP, _ENUM_FORMATS, _ENUM_SIZES, _ENUM_RATES = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
_VIDEO_CAPTURE = 1  # both the capability and the type of buffer
_HAS_DEVICE_CAPS = 1 << 31
_DISCRETE = 1
_FLUENT = 24.0  # frames per second


@dataclass(frozen=True)
class Mode:
    """``pixels``: the format's four letters, as ``MJPG``. ``rate``: the highest, frames per second."""

    pixels: str
    width: int
    height: int
    rate: float

    def __str__(self) -> str:
        return f"{self.width}x{self.height}@{self.rate:g}"


def read_modes(device: Path) -> list[Mode] | None:
    """Every format and size that a camera gives, or None where the device is none.

    Sizes or rates that are given as a range, not as a list, are left out.

    Raises:
        OSError: it cannot be opened, or is no V4L2 device.
    """
    handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    try:
        whole, own = struct.unpack_from("84x2I", fcntl.ioctl(handle, _QUERYCAP, bytes(104)))
        if not (own if whole & _HAS_DEVICE_CAPS else whole) & _VIDEO_CAPTURE:
            return None
        return [mode for pixels in _formats(handle) for mode in _sizes(handle, pixels)]
    finally:
        os.close(handle)


def describe(modes: list[Mode]) -> str:
    """``MJPG 1920x1080@30, YUYV 1920x1080@5 or 640x480@30``: the largest size, and the largest fluent one."""
    texts = []
    for pixels in dict.fromkeys(mode.pixels for mode in modes):
        by_size = sorted(
            (mode for mode in modes if mode.pixels == pixels), key=lambda mode: mode.width * mode.height
        )
        largest = by_size[-1]
        fluent = [mode for mode in by_size if mode.rate >= _FLUENT and largest.rate < _FLUENT]
        texts.append(f"{pixels} {' or '.join(map(str, [largest, *fluent[-1:]]))}")
    return ", ".join(texts)


def _enumerate(handle: int, request: int, size: int, *fields: int) -> Iterator[bytes]:
    """The answers to a request for the entry 0, 1, 2, ..., until the driver has no more."""
    for index in count():
        question = struct.pack(f"{1 + len(fields)}I", index, *fields).ljust(size, b"\0")
        try:
            yield fcntl.ioctl(handle, request, question)
        except OSError:  # EINVAL: there is no such entry
            return


def _formats(handle: int) -> Iterator[int]:
    for answer in _enumerate(handle, _ENUM_FORMATS, 64, _VIDEO_CAPTURE):
        yield struct.unpack_from("44xI", answer)[0]


def _sizes(handle: int, pixels: int) -> Iterator[Mode]:
    name = struct.pack("I", pixels).decode("ascii", "replace").strip()
    for answer in _enumerate(handle, _ENUM_SIZES, 44, pixels):
        kind, width, height = struct.unpack_from("8x3I", answer)
        if kind != _DISCRETE:
            return
        rates = [
            denominator / numerator  # what is told are the seconds between frames
            for kind, numerator, denominator in (
                struct.unpack_from("16x3I", answer)
                for answer in _enumerate(handle, _ENUM_RATES, 52, pixels, width, height)
            )
            if kind == _DISCRETE and numerator
        ]
        if rates:
            yield Mode(name, width, height, round(max(rates), 2))
