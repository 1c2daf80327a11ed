"""The loop: frames from a source, through the classifier, into the sinks; in order, one thread."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.preprocess import UInt8
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sources.base import Source

_KEPT = 10_000  # timings: enough for percentiles, and bounded in a run of days


class ImageClassifier(Protocol):
    """What the loop needs of a classifier."""

    def classify(self, images: Sequence[UInt8]) -> list[Prediction]:
        """Frames (H, W, 3) uint8 RGB, each of its own size -> one prediction each."""


@dataclass(frozen=True)
class StageTime:
    """Milliseconds per frame."""

    median: float
    p90: float


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    ``frames``: results written. ``skipped``: inputs that could not be read. ``seconds``: wall clock, from
    the first read until the sinks were closed. ``stages``: ``read``, ``classify`` and ``write``, over the
    last 10,000 frames. ``labels``: results per label, most frequent first; ``rejected``: those below the
    threshold. ``interrupted``: ended by Ctrl-C.
    """

    frames: int
    skipped: int
    seconds: float
    stages: Mapping[str, StageTime]
    labels: Mapping[str, int]
    rejected: int
    interrupted: bool


def run(
    source: Source,
    classifier: ImageClassifier,
    sinks: Sequence[Sink],
    *,
    batch: int = 1,
    max_frames: int | None = None,
    every: int = 1,
    on_frame: Callable[[Frame, Prediction], None] | None = None,
) -> Summary:
    """Classify a source's frames and hand each result to every sink, in order.

    Args:
        source: read until its end and closed.
        classifier: stays open.
        sinks: closed at the end, whatever happens.
        batch: frames per call of the classifier; 1 for live sources, where a batch is waiting time.
        max_frames: stop after so many results.
        every: classify frames 0, ``every``, 2 ``every``, ... of each source.
        on_frame: called after the sinks have taken a result.

    Returns:
        The summary. Ctrl-C ends the run early and is told there, not raised.

    Raises:
        ValueError: ``batch``, ``every`` or ``max_frames`` below 1.
        RmatkError: what the source, the classifier or a sink raises; the sinks are closed before.
    """
    if batch < 1 or every < 1 or (max_frames is not None and max_frames < 1):
        raise ValueError(f"batch {batch}, every {every} and max_frames {max_frames} must be at least 1")
    tally = _Tally()
    interrupted = False
    start = time.perf_counter()
    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)
        stack.callback(source.close)
        try:
            for frames in _batches(source, batch, every, max_frames, tally):
                with tally.timing("classify", len(frames)):
                    predictions = classifier.classify([frame.image for frame in frames])
                for frame, prediction in zip(frames, predictions, strict=True):
                    with tally.timing("write"):
                        for sink in sinks:
                            sink.write(frame, prediction)
                    tally.count(prediction)
                    if on_frame is not None:
                        on_frame(frame, prediction)
        except KeyboardInterrupt:
            interrupted = True
    return tally.summary(source.skipped, time.perf_counter() - start, interrupted)


@dataclass
class _Tally:
    """Counts and timings while the loop runs."""

    frames: int = 0
    rejected: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, deque[float]] = field(
        default_factory=lambda: {name: deque(maxlen=_KEPT) for name in ("read", "classify", "write")}
    )

    @contextmanager
    def timing(self, stage: str, frames: int = 1) -> Iterator[None]:
        """Note the time of the block, shared evenly among ``frames``."""
        start = time.perf_counter()
        yield
        self.seconds[stage].extend([(time.perf_counter() - start) / frames] * frames)

    def count(self, prediction: Prediction) -> None:
        """Note one result."""
        self.frames += 1
        if prediction.label is None:
            self.rejected += 1
        else:
            self.labels[prediction.label] += 1

    def summary(self, skipped: int, seconds: float, interrupted: bool) -> Summary:
        """The frozen result."""
        stages = {
            name: StageTime(*(round(1e3 * float(q), 3) for q in np.percentile(values, (50, 90))))
            for name, values in self.seconds.items()
            if values
        }
        labels = dict(self.labels.most_common())
        return Summary(self.frames, skipped, round(seconds, 3), stages, labels, self.rejected, interrupted)


def _batches(
    source: Source, size: int, every: int, limit: int | None, tally: _Tally
) -> Iterator[list[Frame]]:
    """Gather every ``every``-th frame into lists of ``size``; the last may be shorter."""
    frames: list[Frame] = []
    taken = 0
    iterator = iter(source)
    while limit is None or taken < limit:
        try:
            with tally.timing("read"):
                frame = next((frame for frame in iterator if frame.index % every == 0), None)
        except SourceError:
            if frames:  # what was read before the damage still counts
                yield frames
            raise
        if frame is None:
            break
        frames.append(frame)
        taken += 1
        if len(frames) == size:
            yield frames
            frames = []
    if frames:
        yield frames
