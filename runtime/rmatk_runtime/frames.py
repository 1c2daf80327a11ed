"""What flows through a running pipeline: frames in, predictions out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from time import monotonic
from typing import Any

from rmatk_runtime.arrays import UInt8


@dataclass(frozen=True)
class Region:
    """A part of a picture: ``box`` is (left, top, width, height) in pixels."""

    name: str
    box: tuple[int, int, int, int]

    def cut(self, image: UInt8) -> UInt8:
        """(H, W, 3) uint8 -> (height, width, 3) uint8, the same memory."""
        left, top, width, height = self.box
        return image[top : top + height, left : left + width]


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    ``image``: (H, W, 3) uint8 RGB. ``index``: 0-based number within the source. ``time``: seconds since the
    source's start (presentation time for files, capture clock for live sources). ``source``: name fit for
    logs and records, free of credentials. ``captured``: ``time.monotonic()`` when this process had the whole
    picture, from which latency counts. ``camera``: the name of the source among several. ``region``: the part
    of the picture that is looked at, None for all of it. ``last``: whether this is the last of the regions of
    its picture, which share ``image``.
    """

    image: UInt8
    index: int
    time: float
    source: str
    captured: float = field(default_factory=monotonic)
    camera: str = ""
    region: Region | None = None
    last: bool = True

    @property
    def looked_at(self) -> UInt8:
        """(H, W, 3) uint8 RGB: the region's pixels, or all."""
        return self.image if self.region is None else self.region.cut(self.image)

    @property
    def stream(self) -> tuple[str, str]:
        """Whose results follow one another: the names of camera and region."""
        return self.camera, "" if self.region is None else self.region.name

    @cached_property
    def captured_at(self) -> str:
        """The same moment in UTC, to the millisecond, as RFC 3339 writes it: by the clock as it is now."""
        moment = datetime.now(timezone.utc) - timedelta(seconds=monotonic() - self.captured)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
            "captured_at": frame.captured_at,
            "source": frame.source,
            "camera": frame.camera or None,
            "region": None if frame.region is None else frame.region.name,
            "label": self.label,
            "rejected": self.rejected,
            "latency_ms": None if self.latency is None else round(1e3 * self.latency, 3),
            "top": [{"label": s.label, "probability": round(s.probability, 4)} for s in self.top],
        }
