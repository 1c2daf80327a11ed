"""Clips for the field tests, made with PyAV: frame ``i`` says its number in grey, and noise fills packets."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmatk_runtime.arrays import UInt8

av: Any = pytest.importorskip("av")


def picture(index: int, size: tuple[int, int] = (64, 48), noise: int = 0) -> UInt8:
    """(H, W, 3): red on the left half, green in its corner; grey of level ``2 index`` on the right."""
    pixels = np.full((size[1], size[0], 3), 2 * (index % 100), np.int16)
    pixels[:, : size[0] // 2] = (220, 20, 20)
    pixels[: size[1] // 2, : size[0] // 4] = (20, 200, 20)
    if noise:
        pixels += np.random.default_rng(index).integers(-noise, noise, pixels.shape, np.int16)
    return pixels.clip(0, 255).astype(np.uint8)


def save(
    path: Path,
    frames: int = 20,
    *,
    codec: str = "libx264",
    kind: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    rate: int = 10,
    noise: int = 0,
    ratio: Fraction | None = None,
    stamps: Sequence[int] | None = None,
    first: int = 0,
    alpha: UInt8 | None = None,
    **options: str,
) -> Path:
    """Write a clip; ``stamps``: presentation times in frames; ``first``: number of the first picture."""
    with av.open(f"file:{path}", "w") as container:
        quality = {"crf": "4"} if codec == "libx264" and "qp" not in options else {}
        stream = container.add_stream(codec, rate=rate, options={**quality, **options})
        stream.width, stream.height, stream.pix_fmt = *size, kind
        if ratio is not None:
            stream.codec_context.sample_aspect_ratio = ratio
        for index in range(frames):
            pixels = picture(first + index, size, noise)
            if alpha is None:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            else:
                frame = av.VideoFrame.from_ndarray(np.dstack((pixels, alpha)), format="rgba")
            frame.pts = index if stamps is None else stamps[index]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def orient(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix (a, b, c, d) into the track header of an MP4, as a phone does."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of other fields come before the matrix
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def packets(path: Path) -> list[tuple[int, int]]:
    """(position, size) of each packet of a clip."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def overwrite(path: Path, start: int, size: int, seed: int = 0) -> Path:
    """Put random bytes into a file."""
    data = bytearray(path.read_bytes())
    data[start : start + size] = random.Random(seed).randbytes(size)
    path.write_bytes(data)
    return path
