"""The results of one picture together: a picture with several regions is drawn once."""

from __future__ import annotations

from dataclasses import dataclass

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.frames import Frame, Prediction, Region


@dataclass(frozen=True)
class Looked:
    """A picture and what was seen on it: one result for each region, or one for all of it (None)."""

    frame: Frame
    results: tuple[tuple[Region | None, Prediction], ...]

    @property
    def image(self) -> UInt8:
        """(H, W, 3) uint8 RGB: the whole picture."""
        return self.frame.image


class Gathering:
    """Takes results one by one and gives each picture once its last result has come."""

    def __init__(self) -> None:
        self._results: dict[str, list[tuple[Region | None, Prediction]]] = {}

    def add(self, frame: Frame, prediction: Prediction) -> Looked | None:
        """The picture of ``frame``, if this is its last result."""
        results = self._results.setdefault(frame.camera, [])
        results.append((frame.region, prediction))
        if not frame.last:
            return None
        del self._results[frame.camera]
        return Looked(frame, tuple(results))
