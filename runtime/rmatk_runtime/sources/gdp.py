"""Raw pictures from a GStreamer child: GStreamer Data Protocol 1.0, as ``gdppay`` writes it.

Each packet has a header of 62 bytes and a payload. Packets of capabilities say how the pictures behind them
are stored: format, size, colours and pixel shape. So nothing has to be known before, and a camera may change
its size. The pictures come as the pipeline has them, and are converted to RGB as those of videos are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.sources.colour import matrix_of, planes_to_rgb
from rmatk_runtime.sources.upright import square_pixels

HEADER_BYTES = 62
BUFFER, CAPS = 1, 2  # types of payload; the others are events
FORMATS = "I420,NV12,Y42B,Y444,YUY2,GRAY8,RGB"
"""What ``videoconvert`` is asked for: it changes only other formats, and of these nothing."""

_FIELD = re.compile(r"([a-z-]+)=\(\w+\)([^,; \0]+)")
# GstVideoColorMatrix -> number of H.273
_MATRICES = {"2": 4, "3": 1, "4": 5, "5": 7, "6": 9}
_NAMED = {"bt601": "2:4", "bt709": "2:3", "smpte240m": "2:5", "bt2020": "2:6", "bt2020-10": "2:6"}
_UHD_ROWS = 2160
_UNSTATED = 2  # in H.273


@dataclass(frozen=True)
class RawFormat:
    """How pictures are stored. ``matrix``: number of H.273; ``ratio``: width of a pixel by its height."""

    kind: str
    width: int
    height: int
    matrix: int
    full: bool
    ratio: Fraction

    @classmethod
    def parse(cls, caps: str) -> RawFormat:
        """From capabilities as GStreamer writes them. Raises KeyError, ValueError."""
        fields = dict(_FIELD.findall(caps))
        width, height = int(fields["width"]), int(fields["height"])
        if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
            raise ValueError(f"{width}x{height}")
        colours = fields.get("colorimetry", "")
        # What states nothing comes as GStreamer's own guess, which from 2160 rows on is BT.2020
        guessed = colours == "bt2020" and height >= _UHD_ROWS
        colours = "bt2020" if colours.startswith("bt2100") else colours
        range_, matrix = (*_NAMED.get(colours, colours).split(":"), "", "")[:2]
        stated = _UNSTATED if guessed else _MATRICES.get(matrix, _UNSTATED)
        ratio = Fraction(fields.get("pixel-aspect-ratio", "1/1"))
        full = range_ == "1" or (range_ != "2" and fields["format"] == "GRAY8")
        return cls(fields["format"], width, height, matrix_of(stated, height), full, ratio)

    def to_rgb(self, data: UInt8) -> UInt8:
        """A picture's bytes as (H, W, 3) uint8 RGB with square pixels."""
        planes = [
            data[start : start + rows * stride].reshape(rows, stride)[
                :, first : first + step * columns : step
            ]
            for start, rows, stride, first, step, columns in self._layout()
        ]
        if self.kind == "RGB":
            pixels = np.ascontiguousarray(np.dstack(planes)[: self.height])
        else:
            planes[0] = planes[0][: self.height]
            pixels = planes_to_rgb(planes, self.matrix, full=self.full)
        return square_pixels(pixels, self.ratio)

    @property
    def size(self) -> int:
        """Bytes of a picture, at the least."""
        return max(start + rows * stride for start, rows, stride, *_ in self._layout())

    def _layout(self) -> list[tuple[int, int, int, int, int, int]]:
        """Of each plane: first byte, rows, bytes a row, first sample, step and samples in a row."""
        width, height = self.width, self.height
        row, half = _up(width, 4), -(-width // 2)
        even = _up(height, 2)
        luma = (0, even, row, 0, 1, width)
        if self.kind == "I420":
            chroma = _up(half, 4)
            second = row * even
            return [
                luma,
                (second, even // 2, chroma, 0, 1, half),
                (second + chroma * even // 2, even // 2, chroma, 0, 1, half),
            ]
        if self.kind == "NV12":
            return [luma, *((row * even, even // 2, row, first, 2, half) for first in (0, 1))]
        if self.kind == "Y42B":
            chroma = _up(width, 8) // 2
            starts = (row * height, (row + chroma) * height)
            return [(0, height, row, 0, 1, width), *((start, height, chroma, 0, 1, half) for start in starts)]
        if self.kind == "Y444":
            return [(number * row * height, height, row, 0, 1, width) for number in range(3)]
        if self.kind == "YUY2":
            row = _up(2 * width, 4)
            return [
                (0, height, row, 0, 2, width),
                (0, height, row, 1, 4, half),
                (0, height, row, 3, 4, half),
            ]
        if self.kind == "RGB":
            row = _up(3 * width, 4)
            return [(0, height, row, channel, 3, width) for channel in range(3)]
        if self.kind == "GRAY8":
            return [(0, height, row, 0, 1, width)]
        raise ValueError(self.kind)


def payload(header: bytes) -> tuple[int, int]:
    """The type and the size in bytes of what follows a header. Raises ValueError."""
    if len(header) != HEADER_BYTES or header[0] != 1:
        raise ValueError("not GStreamer Data Protocol 1")
    return int.from_bytes(header[4:6], "big"), int.from_bytes(header[6:10], "big")


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
