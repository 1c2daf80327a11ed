"""Notices a camera that sends the same picture for ever: its sensor or encoder has stopped."""

from __future__ import annotations

import zlib

import numpy as np

from rmatk_runtime.arrays import UInt8

_STRIDE = 16  # rows: while these change, the others need not be looked at


class StandStill:
    """Measures for how long pictures have been equal, pixel by pixel.

    A camera that looks at a scene without any motion still sends its sensor's noise. While pictures change, a
    comparison reads every 16th row; only once those stand still a checksum is taken of the whole.
    """

    def __init__(self) -> None:
        self._rows: UInt8 | None = None
        self._sum: int | None = None
        self._since = 0.0

    def seconds(self, image: UInt8, captured: float) -> float:
        """Seconds since the first of the equal pictures of which ``image`` (H, W, 3) is the newest."""
        rows = image[::_STRIDE].copy()
        if self._rows is None or not np.array_equal(rows, self._rows):
            self._rows, self._sum, self._since = rows, None, captured
            return 0.0
        whole = zlib.crc32(np.ascontiguousarray(image).data)
        if self._sum is not None and whole != self._sum:
            self._since = captured
        self._sum = whole
        return captured - self._since
