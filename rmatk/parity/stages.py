"""Parity's stages as rows of text: the same table on the terminal and on every page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rmatk_runtime.parity.compare import StageResult
from rmatk_runtime.parity.paired import AccuracyDifference

CLASS_MATRIX = "class matrix"  # the one stage whose rows are labels, not pictures

_COLUMNS: dict[str, Callable[[StageResult], str]] = {
    "stage": lambda stage: stage.stage,
    "n": lambda stage: str(stage.images),
    "cosine": lambda stage: _number(stage.min_cosine, ".6f"),
    "max |Δ|": lambda stage: _number(stage.max_embedding_difference, ".1e"),
    "max |Δ logit|": lambda stage: _number(stage.max_logit_difference, ".1e"),
    "top-1": lambda stage: _number(stage.agreement, ".1%"),
    "flips ≈": lambda stage: share(stage.expected_changes),
    "acc.": lambda stage: _number(stage.accuracy, ".1%"),
    "change (95 %)": lambda stage: points(stage.accuracy_difference),
    "": lambda stage: "ok" if stage else "FAILS",
}
FULL = tuple(_COLUMNS)
SHORT = tuple(name for name in FULL if name not in ("max |Δ logit|", "acc."))  # fits a terminal


def stage_row(stage: StageResult, headings: Sequence[str] = SHORT) -> tuple[str, ...]:
    """One stage under ``headings``; what it does not measure stays empty."""
    return tuple(_COLUMNS[heading](stage) for heading in headings)


def points(difference: AccuracyDifference | None) -> str:
    """An accuracy difference in percentage points with its interval: ``-0.2 (-0.7, +0.3)``."""
    if difference is None:
        return ""
    value, low, high = (100 * share for share in (difference.difference, difference.low, difference.high))
    return f"{value:+.1f} ({low:+.1f}, {high:+.1f})"


def share(value: float | None) -> str:
    """A share that may be small, in percent: ``0.48%``, ``0.013%``, ``<0.001%``."""
    if value is None:
        return ""
    return f"{100 * value:.2g}%" if value >= 1e-5 else "<0.001%"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
