"""Parity's stages as rows of text: the same table on the terminal and on every page."""

from __future__ import annotations

from rmatk_runtime.paired import AccuracyDifference
from rmatk_runtime.parity import StageResult

HEADINGS = ("stage", "n", "cosine", "max |Δ|", "top-1", "acc.", "change (95 %)", "")


def stage_row(stage: StageResult) -> tuple[str, ...]:
    """One stage under :data:`HEADINGS`; what it does not measure stays empty."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        stage.stage,
        str(stage.images),
        number(stage.min_cosine, ".6f"),
        number(stage.max_embedding_difference, ".1e"),
        number(stage.agreement, ".1%"),
        number(stage.accuracy, ".1%"),
        "" if stage.accuracy_difference is None else points(stage.accuracy_difference),
        "ok" if stage else "FAILS",
    )


def points(difference: AccuracyDifference) -> str:
    """An accuracy difference in percentage points with its interval: ``-0.2 (-0.7, +0.3)``."""
    value, low, high = (100 * share for share in (difference.difference, difference.low, difference.high))
    return f"{value:+.1f} ({low:+.1f}, {high:+.1f})"
