"""Counters of a run so far, for the page and for Prometheus."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.registry import Collector

from rmatk_runtime.frames import Frame, Prediction
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
        self._began = time.monotonic()
        self._times: dict[str | None, deque[float]] = defaultdict(lambda: deque(maxlen=1000))  # None: of all
        self._labels: set[str] = set()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._results = Counter(
            "rmatk_results",
            "Results by label; that of rejected ones is empty.",
            ["label", "camera", "region"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "rmatk_latency_seconds",
            "From capture to result.",
            ["camera"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.requests = Counter(
            "rmatk_classify_requests", "POST /v1/classify by status.", ["status"], registry=self._registry
        )

    def count(self, frame: Frame, prediction: Prediction) -> None:
        """Note one result."""
        self._results.labels(self._bounded(prediction.label or ""), *frame.stream).inc()
        if frame.last:
            for key in (None, frame.camera):
                self._times[key].append(time.monotonic())
        if prediction.latency is not None:
            self._latency.labels(frame.camera).observe(prediction.latency)

    def _bounded(self, label: str) -> str:
        if label not in self._labels and len(self._labels) >= MOST_LABELS:
            return "other"
        self._labels.add(label)
        return label

    def rate(self, camera: str | None = None) -> float:
        """Pictures per second over the last moments, of a camera or of all."""
        now = time.monotonic()
        recent = [then for then in self._times[camera].copy() if now - then <= _WINDOW]
        return (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 else 0.0

    def state(self) -> SourceState:
        """That of the first camera that is not live."""
        states = [source.state for source in self.source.cameras.values()]
        return next((state for state in states if state is not SourceState.LIVE), SourceState.LIVE)

    def trouble(self) -> str | None:
        """Why no results come from one or several cameras, or None while they do from all."""
        found = {name: self.trouble_of(name) for name in self.source.cameras}
        return (
            "; ".join(f"{name}: {words}" if name else words for name, words in found.items() if words) or None
        )

    def trouble_of(self, camera: str) -> str | None:
        """Why no results come from a camera, or None while they do."""
        source = self.source.cameras[camera]
        if source.state is not SourceState.LIVE:
            return f"the source is {source.state.value}"
        times = self._times[camera]
        waited = time.monotonic() - (times[-1] if times else self._began)
        if waited > STALLED + 2 / (source.info.rate or 30.0):
            return f"no result for {waited:.0f} s"
        return None

    def collect(self) -> Iterator[Metric]:
        """What is read when Prometheus asks: the counts of each camera, by its name if there are several."""
        tallies = self.tally.cameras or {"": self.tally}
        counts = (
            ("rmatk_frames", "Frames classified so far.", "frames"),
            ("rmatk_captured_frames", "Frames that came so far.", "captured"),
            ("rmatk_dropped_frames", "Frames of a live source that a newer one replaced.", "dropped"),
            ("rmatk_skipped_inputs", "Inputs that could not be read.", "damaged"),
            ("rmatk_frozen_seconds", "For how long the same picture came again and again.", "frozen"),
        )
        for name, text, attribute in counts:
            family = CounterMetricFamily(name, text, labels=["camera"])
            for camera, tally in tallies.items():
                family.add_metric([camera], getattr(tally, attribute))
            yield family
        states = StateSetMetricFamily("rmatk_source_state", "Of each source.", labels=["camera"])
        for camera, source in self.source.cameras.items():
            states.add_metric([camera], {state.value: state is source.state for state in SourceState})
        yield states

    def prometheus(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
