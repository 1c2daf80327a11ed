"""A clock that only goes forward, over recordings whose timestamps begin again or leap."""

from __future__ import annotations

import logging
import math

log = logging.getLogger(__name__)

LEAP = 10.0
"""Seconds between two pictures from which a format that allows for such leaps has one."""
_JITTER = 0.2  # of a step: timestamps may be rounded to milliseconds
_FEW = 0.01
"""Share of the steps that may be holes."""
_ROUNDING = 1e-6  # seconds; presentation times are fractions


class Clock:
    """Seconds since the first picture, for pictures in the order of their presentation.

    Where timestamps go back, as where two recordings were joined, or leap ahead and the format allows for
    that (``leaps``), the next picture follows ``step`` seconds after the last; each jump is logged, under
    ``name`` where there is one.
    """

    def __init__(self, name: str, step: float, *, leaps: bool, shift: float | None = None) -> None:
        """``shift``: what to add to the first timestamp; None makes it 0."""
        self.jumps = 0
        self.shift = shift
        self.last: float | None = None
        self._name, self._step, self._leaps = name, step, leaps

    def time(self, stamp: float | None) -> float:
        """The time of the next picture, whose timestamp is ``stamp``; None: it has none."""
        if stamp is None:
            time = 0.0 if self.last is None else self.last + self._step
        else:
            self.shift = -stamp if self.shift is None else self.shift
            time = stamp + self.shift
            if self.last is not None and self._jumps(time - self.last):
                time = self.last + self._step
                self.jumps += 1
                if self._name:
                    by, place = stamp + self.shift - self.last, self.last
                    log.warning(
                        "%s: timestamps jump by %+.1f s at %.1f s; times go on", self._name, by, place
                    )
                self.shift = time - stamp
        self.last = time if self.last is None else max(self.last, time)
        return self.last

    def _jumps(self, gap: float) -> bool:
        return gap < -_ROUNDING or (self._leaps and gap > LEAP)


class Beat:
    """Counts the pictures that a recording of even rate lacks, by the holes between its timestamps.

    A recording whose rate varies has no holes: it is taken as even only where nearly all steps are alike, and
    the others are whole multiples.
    """

    def __init__(self, step: float) -> None:
        self._step, self._last = step, -math.inf
        self._steps = self._holes = self._missing = 0
        self._even = True

    def add(self, stamp: float | None) -> None:
        """Note the next timestamp in the order of decoding, in seconds; None: it has none."""
        stamp = -math.inf if stamp is None else stamp
        gap, self._last = stamp - self._last, stamp
        if not 0 < gap <= LEAP:  # the first, or a jump, behind which FFmpeg may have guessed timestamps
            self._even &= self._steps == 0
            return
        beats = round(gap / self._step)
        self._steps += 1
        if beats < 1 or abs(gap - beats * self._step) > _JITTER * self._step:
            self._even = False
        elif beats > 1:
            self._holes += 1
            self._missing += beats - 1

    @property
    def missing(self) -> int:
        """How many pictures are missing."""
        return self._missing if self._even and self._holes <= max(1, self._steps * _FEW) else 0
