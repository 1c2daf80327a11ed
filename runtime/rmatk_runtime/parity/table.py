"""Parity's results as rows and sentences: the same on the terminal and on every page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rmatk_runtime.parity.stage import Bisection, GraphSource, NodeDeviation, StageResult
from rmatk_runtime.parity.statistics import AccuracyDifference

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
LISTED = 8  # nodes of a bisection
NODE_HEADINGS = ("node", "op", "works in", "own", "inputs", "output", "cosine")
_GRAPHS: dict[GraphSource, str] = {
    "run": "the run's fp32 graph",
    "bundle": "the bundle's fp32 graph",
    "itself": "its own arithmetic in float64",
}


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


def node_row(node: NodeDeviation) -> tuple[str, ...]:
    """One node under :data:`NODE_HEADINGS`."""
    figures = (_deviation(value) for value in (node.own, node.inputs, node.output))
    cosine = "" if node.cosine is None else f"{node.cosine:.6f}"
    return (node.node, node.op, node.precision, *figures, cosine)


def verdict(found: Bisection, stage: StageResult) -> str:
    """What follows from a bisection of ``stage``, in a sentence or two."""
    whose = _GRAPHS[found.reference]
    node = found.departs
    if node is not None:
        return (
            f"{found.stage} diverges from {whose} at the node {node.node} ({node.op} in {node.place}): "
            f"given its inputs, its output is off by {_deviation(node.own)}; its inputs were off by "
            f"{_deviation(node.inputs)}."
        )
    sound = (
        f"No node of {found.stage} diverges from {whose}: each of {len(found.nodes)} computes what it should"
    )
    if stage:
        return f"{sound}."
    if found.end is not None and (found.fused is None or found.fused > 10 * found.end):
        return (
            f"{sound} when every value is asked for; when none is, the embeddings are off by "
            f"{_deviation(found.fused)}: ONNX Runtime goes wrong where it fuses nodes. Another version may "
            "not."
        )
    if found.reference == "itself":
        return f"{sound}: the graph itself is not what was trained. Bisect it against the run, on photos."
    return f"{sound}, but their deviations add up to {_deviation(found.end)}. The largest are listed."


def _deviation(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"
