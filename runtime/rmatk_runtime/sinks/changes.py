"""Which results are sent over a network: every one, or those with a new label."""

from __future__ import annotations

from typing import Literal

from rmatk_runtime.frames import Prediction

Publish = Literal["change", "all"]


class Changes:
    """Tells results whose label is not the one before; "rejected" counts as a label of its own."""

    def __init__(self, publish: Publish) -> None:
        self._all = publish == "all"
        self._last: str | None = None
        self._first = True

    def wants(self, prediction: Prediction) -> bool:
        """Whether this result is to be sent; asked once for each, in order."""
        new = self._first or prediction.label != self._last
        self._first, self._last = False, prediction.label
        return new or self._all
