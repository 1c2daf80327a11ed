"""Counters of a run so far, for the page and for Prometheus."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.registry import Collector

from rmatk_runtime.frames import Prediction
from rmatk_runtime.inference.summary import Tally
from rmatk_runtime.sources.base import Source, SourceState

STALLED = 5.0
"""Seconds without a result after which a source that is live counts as stalled."""
MOST_LABELS = 100
"""Labels that get a time series of their own; results of later ones count as ``other``."""
_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_WINDOW = 2.0  # seconds that the rate is over


class Meter(Collector):
    """Adds rate, latency histogram and health to what the loop counts in ``tally``.

    Written by the loop's thread, read from any.
    """

    def __init__(self, source: Source, tally: Tally) -> None:
        self.source = source
        self.tally = tally
        self._last = time.monotonic()
        self._times: deque[float] = deque(maxlen=1000)
        self._labels: set[str] = set()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._results = Counter(
            "rmatk_results",
            "Results by label; that of rejected ones is empty.",
            ["label"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "rmatk_latency_seconds", "From capture to result.", buckets=_BUCKETS, registry=self._registry
        )
        self.requests = Counter(
            "rmatk_classify_requests", "POST /v1/classify by status.", ["status"], registry=self._registry
        )

    def count(self, prediction: Prediction) -> None:
        """Note one result."""
        self._last = time.monotonic()
        self._times.append(self._last)
        self._results.labels(self._bounded(prediction.label or "")).inc()
        if prediction.latency is not None:
            self._latency.observe(prediction.latency)

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

    def collect(self) -> Iterator[Metric]:
        """What is read when Prometheus asks."""
        tally = self.tally
        yield CounterMetricFamily("rmatk_frames", "Results so far.", tally.frames)
        yield CounterMetricFamily(
            "rmatk_dropped_frames", "Frames of a live source that a newer one replaced.", tally.dropped
        )
        yield CounterMetricFamily("rmatk_skipped_inputs", "Inputs that could not be read.", tally.damaged)
        states = {state.value: state is self.source.state for state in SourceState}
        yield StateSetMetricFamily("rmatk_source_state", "Of the source.", states)

    def prometheus(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
