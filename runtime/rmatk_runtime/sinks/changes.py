"""Which results are sent over a network: every one, or those with a new label."""

from __future__ import annotations

from typing import Literal

from rmatk_runtime.frames import Frame, Prediction

Publish = Literal["change", "all"]


class Changes:
    """Tells results whose label is not the one before, of the same camera and region.

    "Rejected" counts as a label of its own.
    """

    def __init__(self, publish: Publish) -> None:
        self._all = publish == "all"
        self._last: dict[tuple[str, str], str | None] = {}

    def wants(self, frame: Frame, prediction: Prediction) -> bool:
        """Whether this result is to be sent; asked once for each, in order."""
        new = frame.stream not in self._last or prediction.label != self._last[frame.stream]
        self._last[frame.stream] = prediction.label
        return new or self._all
