"""What flows through a running pipeline: frames in, predictions out."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from rmatk_runtime.arrays import UInt8


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    ``image``: (H, W, 3) uint8 RGB. ``index``: 0-based number within the source. ``time``: seconds since the
    source's start (presentation time for files, capture clock for live sources). ``source``: name fit for
    logs and records, free of credentials. ``captured``: ``time.monotonic()`` when this process had the whole
    picture, from which latency counts.
    """

    image: UInt8
    index: int
    time: float
    source: str
    captured: float = field(default_factory=monotonic)


@dataclass(frozen=True)
class Score:
    """A label and its calibrated probability in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The best ``k`` labels of one frame, most probable first.

    ``rejected`` is true when the best probability is below the bundle's (or the caller's) threshold:
    the frame shows none of the classes with enough certainty. ``latency``: seconds from capture to this
    answer, where a live source was running.
    """

    top: tuple[Score, ...]
    rejected: bool = False
    latency: float | None = None

    @property
    def label(self) -> str | None:
        """The answer: the best label, or None when rejected."""
        return None if self.rejected else self.top[0].label

    def as_record(self, frame: Frame) -> dict[str, Any]:
        """The JSON object that sinks write for ``frame``; digits beyond four places are rounding."""
        return {
            "frame": frame.index,
            "time": round(frame.time, 6),
            "source": frame.source,
            "label": self.label,
            "rejected": self.rejected,
            "latency_ms": None if self.latency is None else round(1e3 * self.latency, 3),
            "top": [{"label": s.label, "probability": round(s.probability, 4)} for s in self.top],
        }
