"""A camera that needs no camera: a repeatable pattern with a moving object, to try and test the whole way."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image, ImageDraw

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.preprocess import UInt8
from rmatk_runtime.sources.base import Source, SourceInfo

_HINT = "write test:// or test://640x480@30?frames=100&seed=1&live=0"
_URI = re.compile(r"test://(?:(\d{1,5})x(\d{1,5}))?(?:@(\d+(?:\.\d+)?))?/?(?:\?(.*))?", re.IGNORECASE)


class PatternSource(Source):
    """``test://[WIDTHxHEIGHT][@RATE][?frames=N&seed=S&live=0|1]``.

    The same seed and index give the same pixels everywhere. ``frames``: end after that many (default:
    never). ``live=1`` (the default) yields frame ``i`` not before ``i / rate`` seconds have passed, as a
    camera would; ``live=0`` yields as fast as frames are taken, as a file would. None is dropped either way.
    """

    def __init__(self, uri: str = "test://") -> None:
        match = _URI.fullmatch(uri)
        if match is None:
            raise SourceError(f"{uri} is not a test pattern", _HINT)
        width, height, rate, query = match.groups()
        options = _options(uri, query or "")
        self._size = (int(width or 640), int(height or 480))
        self._rate = float(rate or 30)
        if min(self._size) < 16 or self._rate <= 0:
            raise SourceError(f"{uri}: the size must be at least 16x16 and the rate above 0", _HINT)
        self._seed = options.get("seed", 0)
        frames = options.get("frames")
        live = options.get("live", 1) != 0
        self.info = SourceInfo(name=uri, size=self._size, rate=self._rate, frames=frames, live=live)
        self._background, self._colour = _scene(self._size, self._seed)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, paced when live."""
        start = time.monotonic()
        index = 0
        while self.info.frames is None or index < self.info.frames:
            due = index / self._rate
            if self.info.live:
                time.sleep(max(0.0, start + due - time.monotonic()))
            yield Frame(self._draw(index), index, due, self.info.name)
            index += 1

    def _draw(self, index: int) -> UInt8:
        """(H, W, 3) uint8: the background with a disc on its round, one lap in four seconds."""
        width, height = self._size
        angle = 2 * np.pi * (index / (4 * self._rate) + self._seed / 7)
        radius = min(width, height) / 8
        x = width / 2 + np.cos(angle) * (width / 2 - radius)
        y = height / 2 + np.sin(angle) * (height / 2 - radius)
        picture = self._background.copy()
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=self._colour)
        return np.asarray(picture)


def _scene(size: tuple[int, int], seed: int) -> tuple[Image.Image, tuple[int, int, int]]:
    """A smooth background and the object's colour."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(40, 160, size=(2, 2, 3), dtype=np.uint8)
    red, green, blue = (int(value) for value in generator.integers(160, 256, size=3))
    return Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR), (red, green, blue)


def _options(uri: str, query: str) -> dict[str, int]:
    options: dict[str, int] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in ("frames", "seed", "live") or not value.isdecimal():
            raise SourceError(f"{uri}: {name}={value} is not an option of the test pattern", _HINT)
        options[name] = int(value)
    return options
