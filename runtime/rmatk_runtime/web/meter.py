"""What a run has come to so far, for the page and for Prometheus."""

from __future__ import annotations

import time
from collections import deque

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, generate_latest

from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sources.base import Source, SourceState
from rmatk_runtime.summary import Times

STALLED = 5.0
"""Seconds without a result after which a live source counts as stalled."""
MOST_LABELS = 100
"""Labels that get a time series of their own; results of later ones count as ``other``."""
_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_WINDOW = 2.0  # seconds that the rate is over


class Meter:
    """Counts results as the loop's thread hands them over; read from any thread.

    Args:
        source: asked for its state and what it skipped.
        every: the loop's ``--every``: frames passed over on purpose are not dropped.
    """

    def __init__(self, source: Source, every: int = 1) -> None:
        self.source = source
        self.latency = Times()
        self.frames = self.dropped = 0
        self._every = every
        self._index: int | None = None
        self._times: deque[float] = deque(maxlen=1000)
        self._last = time.monotonic()
        self._labels: set[str] = set()
        self.registry = CollectorRegistry()
        self._frames = Counter("rmatk_frames", "Results so far.", registry=self.registry)
        self._dropped = Counter(
            "rmatk_dropped_frames",
            "Frames of a live source that a newer one replaced.",
            registry=self.registry,
        )
        self._results = Counter(
            "rmatk_results",
            "Results by label; of rejected ones it is empty.",
            ["label"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "rmatk_latency_seconds", "From capture to result.", buckets=_BUCKETS, registry=self.registry
        )
        self.requests = Counter(
            "rmatk_classify_requests", "POST /v1/classify by status.", ["status"], registry=self.registry
        )
        states = [state.value for state in SourceState]
        self._state = Enum("rmatk_source_state", "Of the source.", states=states, registry=self.registry)
        self._skipped = Gauge(
            "rmatk_skipped_inputs", "Inputs that could not be read.", registry=self.registry
        )

    def count(self, frame: Frame, prediction: Prediction) -> None:
        """Note one result."""
        now = self._last = time.monotonic()
        self._times.append(now)
        self.frames += 1
        self._frames.inc()
        self._results.labels(self._bounded(prediction.label or "")).inc()
        if prediction.latency is not None:
            self.latency.add(prediction.latency)
            self._latency.observe(prediction.latency)
        if self.source.info.live:  # its frames are numbered as they arrive, so a gap tells of dropped ones
            gone = 0 if self._index is None else max(0, (frame.index - self._index) // self._every - 1)
            self._index = frame.index
            self.dropped += gone
            self._dropped.inc(gone)

    def _bounded(self, label: str) -> str:
        if label not in self._labels and len(self._labels) >= MOST_LABELS:
            return "other"
        self._labels.add(label)
        return label

    def rate(self) -> float:
        """Results per second over the last moments."""
        now = time.monotonic()
        recent = [then for then in self._times.copy() if now - then <= _WINDOW]
        return (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 else 0.0

    def trouble(self) -> str | None:
        """Why no results come, or None while they do."""
        if self.source.state is not SourceState.LIVE:
            return f"the source is {self.source.state.value}"
        if (waited := time.monotonic() - self._last) > STALLED:
            return f"no result for {waited:.0f} s"
        return None

    def prometheus(self) -> bytes:
        """Everything in Prometheus' text format."""
        self._state.state(self.source.state.value)
        self._skipped.set(self.source.skipped)
        return generate_latest(self.registry)
