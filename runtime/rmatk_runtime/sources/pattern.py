"""A test pattern with a moving object, for runs without a camera."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image, ImageDraw

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.sources.live import Connection, LiveSource, Picture
from rmatk_runtime.sources.options import SourceOptions

_HINT = "write test:// or test://640x480@30?frames=100&seed=1&live=0"
_URI = re.compile(r"test://(?:(\d{1,5})x(\d{1,5}))?(?:@(\d+(?:\.\d+)?))?/?(?:\?(.*))?", re.IGNORECASE)


def open_pattern(uri: str, options: SourceOptions) -> Source:
    """``test://[WIDTHxHEIGHT][@RATE][?frames=N&seed=S&live=0|1]``.

    ``frames``: end after that many (default: never). ``live=1`` (the default) behaves as a camera: frame
    ``i`` comes ``i / rate`` seconds after the first, and is dropped when nobody takes it. ``live=0`` yields
    as fast as frames are taken, as a file would. ``options`` give what the address leaves out.
    """
    options.check("pattern", uri)
    match = _URI.fullmatch(uri)
    if match is None:
        raise SourceError(f"{uri} is not a test pattern", _HINT)
    width, height, rate, query = match.groups()
    asked = _options(uri, query or "")
    size = (int(width), int(height)) if width else options.size or (640, 480)
    pattern = Pattern(size, float(rate or options.rate or 30), asked.get("frames"), asked.get("seed", 0))
    if min(size) < 16 or pattern.rate <= 0:
        raise SourceError(f"{uri}: the size must be at least 16x16 and the rate above 0", _HINT)
    if asked.get("live", 1):
        return LiveSource(uri, lambda: PatternConnection(pattern), options)
    return PatternSource(uri, pattern, options)


@dataclass(frozen=True)
class Pattern:
    """A disc on its round over a smooth background; the same seed and index give the same pixels everywhere.

    ``size``: (width, height). ``rate``: frames per second. ``frames``: how many, None for no end.
    """

    size: tuple[int, int]
    rate: float
    frames: int | None
    seed: int

    def indices(self) -> Iterator[int]:
        """The number of each frame."""
        return iter(range(self.frames)) if self.frames is not None else count()

    def draw(self, index: int) -> UInt8:
        """(H, W, 3) uint8: frame ``index``; one lap takes four seconds."""
        width, height = self.size
        background, colour = self._scene
        angle = 2 * np.pi * (index / (4 * self.rate) + self.seed / 7)
        radius = min(width, height) / 8
        x = width / 2 + np.cos(angle) * (width / 2 - radius)
        y = height / 2 + np.sin(angle) * (height / 2 - radius)
        picture = background.copy()
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        return np.asarray(picture)

    @cached_property
    def _scene(self) -> tuple[Image.Image, tuple[int, int, int]]:
        """A smooth background and the object's colour."""
        generator = np.random.default_rng(self.seed)
        corners = generator.integers(40, 160, size=(2, 2, 3), dtype=np.uint8)
        red, green, blue = (int(value) for value in generator.integers(160, 256, size=3))
        return Image.fromarray(corners).resize(self.size, Image.Resampling.BILINEAR), (red, green, blue)


class PatternSource(Source):
    """Every frame of a pattern, as fast as they are taken."""

    def __init__(self, name: str, pattern: Pattern, options: SourceOptions) -> None:
        self._pattern, self._options = pattern, options
        size = options.turn_size(pattern.size)
        self.info = SourceInfo(name=name, size=size, rate=pattern.rate, frames=pattern.frames, live=False)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames."""
        for index in self._pattern.indices():
            self.captured += 1
            image = self._options.turn(self._pattern.draw(index))
            yield Frame(image, index, index / self._pattern.rate, self.info.name)


class PatternConnection(Connection):
    """A pattern that comes at its rate."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self.size, self.rate = pattern.size, pattern.rate

    def __iter__(self) -> Iterator[Picture]:
        """Yield each frame when it is due."""
        start = time.monotonic()
        for index in self._pattern.indices():
            time.sleep(max(0.0, start + index / self._pattern.rate - time.monotonic()))
            yield partial(self._pattern.draw, index)

    def close(self) -> None:
        """Nothing is held."""


def _options(uri: str, query: str) -> dict[str, int]:
    options: dict[str, int] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in ("frames", "seed", "live") or not value.isdecimal():
            raise SourceError(f"{uri}: {name}={value} is not an option of the test pattern", _HINT)
        options[name] = int(value)
    return options
