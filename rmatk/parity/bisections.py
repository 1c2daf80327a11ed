"""What bisecting found, in words and as rows of a table: the same on the terminal and on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rmatk_runtime.parity.compare import StageResult

if TYPE_CHECKING:
    from rmatk_export.parity.bisect import Bisection, NodeDeviation

LISTED = 8
NODE_HEADINGS = ("node", "op", "works in", "own", "inputs", "output", "cosine")
_REFERENCES = {
    "run": "the run's fp32 graph",
    "bundle": "the bundle's fp32 graph",
    "itself": "its own arithmetic in float64",
}


def node_row(node: NodeDeviation) -> tuple[str, ...]:
    """One node under :data:`NODE_HEADINGS`."""
    figures = (_number(value) for value in (node.own, node.inputs, node.output))
    cosine = "" if node.cosine is None else f"{node.cosine:.6f}"
    return (node.node, node.op, node.precision, *figures, cosine)


def verdict(found: Bisection, stage: StageResult) -> str:
    """What follows from a bisection of ``stage``, in a sentence or two."""
    whose = _REFERENCES[found.reference]
    node = found.departs
    if node is not None:
        return (
            f"{found.stage} departs from {whose} at the node {node.node} ({node.op} in {node.place}): "
            f"given its inputs, its output is off by {_number(node.own)}; its inputs were off by "
            f"{_number(node.inputs)}."
        )
    sound = (
        f"No node of {found.stage} departs from {whose}: each of {len(found.nodes)} computes what it should"
    )
    if stage:
        return f"{sound}."
    if found.end is not None and (found.fused is None or found.fused > 10 * found.end):
        return (
            f"{sound} when every value is asked for; when none is, the embeddings are off by "
            f"{_number(found.fused)}: ONNX Runtime goes wrong where it fuses nodes. Another version may not."
        )
    if found.reference == "itself":
        return f"{sound}: the graph itself is not what was trained. Bisect it against the run, on photos."
    return f"{sound}, but their deviations add up to {_number(found.end)}. The largest are listed."


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"
