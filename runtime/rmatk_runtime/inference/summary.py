"""The summary of a run: counts, times per stage and from capture to result, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rmatk_runtime.frames import Prediction
from rmatk_runtime.sources.base import Source

KEPT = 10_000  # times per stage: enough for the 99th percentile, and bounded in a run of days
STAGES = ("read", "prepare", "infer", "write")


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds per frame, over the last 10,000 frames."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    ``captured``: every picture that came, or should have come. It is the sum of ``frames``: results written;
    ``damaged`` (also as ``skipped``): pictures that could not be read; ``dropped``: frames of a live source
    that a newer one replaced before their turn came; and ``out_of_range``: passed over as asked, or under way
    when the run was ended. ``seconds``: wall clock, from the first read until the sinks were closed.
    ``stages``: time that each of :data:`STAGES` worked; they overlap. ``frozen``: seconds for which a live
    source sent the same picture again and again.
    ``latency``: from capture to result, of live sources. ``labels``: results per label, most frequent first;
    ``rejected``: those below the threshold. ``ended``: None at the source's end or a limit, else what asked
    for the end.
    """

    frames: int
    skipped: int
    dropped: int
    seconds: float
    stages: Mapping[str, Percentiles]
    latency: Percentiles | None
    labels: Mapping[str, int]
    rejected: int
    ended: str | None
    frozen: float = 0.0
    captured: int = 0
    damaged: int = 0
    out_of_range: int = 0


class Times:
    """The last durations of one thing. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float) -> None:
        """Note one."""
        self._seconds.append(seconds)

    @contextmanager
    def of(self, frames: int) -> Iterator[None]:
        """Note the time of the block, shared evenly among ``frames``."""
        start = time.perf_counter()
        yield
        self._seconds.extend([(time.perf_counter() - start) / frames] * frames)

    def percentiles(self) -> Percentiles | None:
        """None before the first."""
        seconds = self._seconds.copy()
        if not seconds:
            return None
        return Percentiles(*(round(1e3 * float(q), 3) for q in np.percentile(seconds, (50, 90, 99))))


class Tally:
    """Counts and times of a run under way."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.frames = self.rejected = 0
        self.captured = self.damaged = self.dropped = self.out_of_range = 0
        self.passed_over = 0  # of those that a source gave
        self.frozen = 0.0
        self.labels: Counter[str] = Counter()
        self.stages = {name: Times() for name in STAGES}
        self.latency = Times()

    def count(self, prediction: Prediction) -> None:
        """Note one result."""
        self.frames += 1
        if prediction.latency is not None:
            self.latency.add(prediction.latency)
        if prediction.label is None:
            self.rejected += 1
        else:
            self.labels[prediction.label] += 1

    def note(self, source: Source, dropped: int) -> None:
        """Take over what a source has counted so far; ``dropped``: frames replaced behind it."""
        self.captured, self.damaged = source.captured, source.damaged
        self.dropped = source.dropped + dropped
        self.out_of_range = source.out_of_range + self.passed_over
        self.frozen = source.frozen

    @property
    def accounted(self) -> int:
        """How many of the captured pictures are classified or counted otherwise."""
        return self.frames + self.damaged + self.dropped + self.out_of_range

    def summary(self, *, ended: str | None) -> Summary:
        """The frozen result."""
        measured = {name: times.percentiles() for name, times in self.stages.items()}
        return Summary(
            frames=self.frames,
            captured=self.captured,
            skipped=self.damaged,
            damaged=self.damaged,
            dropped=self.dropped,
            out_of_range=self.out_of_range,
            frozen=round(self.frozen, 3),
            seconds=round(time.perf_counter() - self.start, 3),
            stages={name: found for name, found in measured.items() if found is not None},
            latency=self.latency.percentiles(),
            labels=dict(self.labels.most_common()),
            rejected=self.rejected,
            ended=ended,
        )
