"""The summary of a run: counts, times per stage and from capture to result, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sources.base import Source, SourceState

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
    ``rejected``: those below the threshold. ``regions``: the labels of each region; the empty label is that
    of the rejected ones. ``ended``: None at the source's end or a limit, else what asked for the end.
    ``cameras``: what each of several came to.
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
    regions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    cameras: Mapping[str, CameraSummary] = field(default_factory=dict)


@dataclass(frozen=True)
class CameraSummary:
    """The same of one camera among several; ``state``: where it stood at the end."""

    state: str
    frames: int
    captured: int
    damaged: int
    dropped: int
    out_of_range: int
    frozen: float
    latency: Percentiles | None
    labels: Mapping[str, int]
    rejected: int
    regions: Mapping[str, Mapping[str, int]]


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
    """Counts and times of a run under way; ``cameras``: those of each camera among several."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.frames = self.rejected = 0
        self.captured = self.damaged = self.dropped = self.out_of_range = 0
        self.passed_over = self.gave_way = 0  # of the frames that a source gave
        self.frozen = 0.0
        self.state = SourceState.CONNECTING
        self.labels: Counter[str] = Counter()
        self.regions: dict[str, Counter[str]] = {}
        self.stages = {name: Times() for name in STAGES}
        self.latency = Times()
        self.cameras: dict[str, Tally] = {}

    def _of(self, frame: Frame) -> tuple[Tally, ...]:
        """This one, and that of the frame's camera."""
        return (self, self.cameras.setdefault(frame.camera, Tally())) if frame.camera else (self,)

    def count(self, frame: Frame, prediction: Prediction) -> None:
        """Note one result; a frame counts with the last of its regions."""
        for tally in self._of(frame):
            tally._count(frame, prediction)

    def _count(self, frame: Frame, prediction: Prediction) -> None:
        self.frames += frame.last
        if prediction.latency is not None:
            self.latency.add(prediction.latency)
        if prediction.label is None:
            self.rejected += 1
        else:
            self.labels[prediction.label] += 1
        if frame.region is not None:
            self.regions.setdefault(frame.region.name, Counter())[prediction.label or ""] += 1

    def pass_over(self, frame: Frame) -> None:
        """Note a frame that is not to be classified (``--every``)."""
        for tally in self._of(frame):
            tally.passed_over += 1

    def give_way(self, frames: Iterable[Frame]) -> None:
        """Note prepared frames that newer ones replaced."""
        for frame in frames:
            for tally in self._of(frame):
                tally.gave_way += frame.last

    def note(self, source: Source) -> None:
        """Take over what a source, and each of its cameras, has counted so far."""
        cameras = source.cameras
        self._take_over(list(cameras.values()))
        for name, camera in cameras.items():
            if name:
                self.cameras.setdefault(name, Tally())._take_over([camera])

    def _take_over(self, sources: Sequence[Source]) -> None:
        self.captured = sum(source.captured for source in sources)
        self.damaged = sum(source.damaged for source in sources)
        self.dropped = sum(source.dropped for source in sources) + self.gave_way
        self.out_of_range = sum(source.out_of_range for source in sources) + self.passed_over
        self.frozen = sum(source.frozen for source in sources)
        self.state = sources[0].state

    def leave_the_rest(self) -> None:
        """Count what was under way when the end was asked for as out of range."""
        for tally in (self, *self.cameras.values()):
            tally.out_of_range += tally.captured - tally.accounted

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
            regions={name: dict(labels.most_common()) for name, labels in self.regions.items()},
            cameras={name: tally._of_a_camera() for name, tally in self.cameras.items()},
        )

    def _of_a_camera(self) -> CameraSummary:
        return CameraSummary(
            state=self.state.value,
            frames=self.frames,
            captured=self.captured,
            damaged=self.damaged,
            dropped=self.dropped,
            out_of_range=self.out_of_range,
            frozen=round(self.frozen, 3),
            latency=self.latency.percentiles(),
            labels=dict(self.labels.most_common()),
            rejected=self.rejected,
            regions={name: dict(labels.most_common()) for name, labels in self.regions.items()},
        )
