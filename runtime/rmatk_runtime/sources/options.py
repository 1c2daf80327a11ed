"""The options of sources, and which kind of source supports which.

Nothing asked for is left undone in silence: an option that a kind of source does not have is refused by name.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import msgspec
import numpy as np

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import SourceError
from rmatk_runtime.pictures.modes import Stretch
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.settings import Problem, above, at_least, one_of, require

log = logging.getLogger(__name__)

_TURNS = frozenset({"flip", "rotate"})
_LIVE = _TURNS | {"rate", "reconnect", "timeout"}
KINDS = {
    "images": _TURNS | {"loop", "stride"},
    "video": _TURNS | {"loop", "stride", "start", "stop", "rate"},
    "pattern": _TURNS | {"size", "rate"},
    "camera": _LIVE | {"size"},
    "stream": _LIVE,
    "pipe": _LIVE - {"reconnect"},
}
"""Options by kind of source."""


class SourceOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What can be asked of a source.

    Raises:
        ConfigError: on construction, naming every field whose value cannot be used.
    """

    size: tuple[int, int] | None = None
    """(width, height) pixels, asked of a camera; pictures are not resized here: preprocessing does that."""
    rate: float | None = None
    """Frames per second: asked of a camera; elsewhere frames between are passed over."""
    flip: str | None = None
    """``horizontal`` or ``vertical``: left and right change places, or top and bottom; before ``rotate``."""
    rotate: int = 0
    """0, 90, 180 or 270 degrees clockwise, for a camera that hangs askew."""
    loop: bool = False
    """Begin files again when they end, for ever."""
    start: float | None = None
    """Seconds into a video at which to begin."""
    stop: float | None = None
    """Seconds into a video before which to end."""
    stride: int = 1
    """Take frames 0, ``stride``, 2 ``stride``, ... of files; those between are not converted."""
    reconnect: int | None = None
    """How often a lost camera or stream is tried again before giving up; None: for ever."""
    patient: bool = False
    """One source of several: a camera that cannot be reached at first is tried again as a lost one, and what
    a source does not support is left to the others, and logged."""
    stretch: Stretch = None
    """How 16-bit greyscale is read; not asked by a person, but the bundle's."""
    timeout: float = 10.0
    """Seconds without a picture after which a camera or stream counts as lost."""

    def __post_init__(self) -> None:
        require(
            *at_least(1, stride=self.stride),
            *at_least(0, start=self.start, stop=self.stop, reconnect=self.reconnect),
            *above(0, rate=self.rate, timeout=self.timeout),
            *one_of((None, "horizontal", "vertical"), flip=self.flip),
            *one_of((0, 90, 180, 270), rotate=self.rotate),
            *self._relations(),
        )

    def _relations(self) -> Iterator[Problem]:
        if self.size is not None and min(self.size) < 1:
            yield "size", f"must be at least 1x1, not {self.size[0]}x{self.size[1]}"
        if self.stop is not None and self.stop <= (self.start or 0.0):
            yield "stop", f"must be later than the start, {self.start or 0.0:g} s, not {self.stop:g} s"

    def reading(self, spec: PreprocessSpec) -> SourceOptions:
        """The same, for pictures that are to be read as ``spec`` says."""
        return msgspec.structs.replace(self, stretch=spec.stretch)

    def check(self, kind: str, name: str) -> None:
        """Hold that a source of ``kind`` (of :data:`KINDS`), called ``name``, can do what is asked.

        Raises:
            SourceError: it cannot, and is the only source; names the flags.
        """
        fields = msgspec.structs.fields(self)
        flags = [field for field in fields if field.name != "patient"]
        asked = [
            field.name
            for field in flags
            if field.name != "stretch" and getattr(self, field.name) != field.default
        ]
        if wrong := [f"--{field}" for field in asked if field not in KINDS[kind]]:
            able = ", ".join(f"--{field}" for field in self.__struct_fields__ if field in KINDS[kind])
            words = f"{name} does not support {' and '.join(wrong)}"
            if not self.patient:
                raise SourceError(words, f"supported: {able}")
            log.warning("%s, which is for the other sources", words)

    def turn(self, image: UInt8) -> UInt8:
        """(H, W, 3) uint8, mirrored and turned as asked: (H, W, 3) or (W, H, 3), contiguous."""
        if self.flip is not None:
            image = image[:, ::-1] if self.flip == "horizontal" else image[::-1]
        return np.ascontiguousarray(np.rot90(image, -self.rotate // 90))

    def turn_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """(width, height) as :meth:`turn` leaves it."""
        return size if size is None or self.rotate % 180 == 0 else (size[1], size[0])


class Thinning:
    """Picks which frames to keep so that at most ``rate`` come per second; None keeps all.

    Frames are taken near an even beat, so that the jitter of a camera's clock costs none, and the beat
    restarts after a gap.
    """

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._due = -math.inf

    def keeps(self, time: float) -> bool:
        """Whether to keep the frame at ``time`` (seconds, not before the frame asked about last)."""
        if time < self._due - self._interval / 4:
            return False
        on_the_beat = time < self._due + self._interval
        self._due = (self._due if on_the_beat else time) + self._interval
        return True


DEFAULTS = SourceOptions()
"""Nothing is asked."""
