"""What parity measured, drawn as SVG: how close the images lie, how accuracy moved, where a graph departs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from rmatk.stages import points
from rmatk_runtime.parity import DECADES, StageResult

if TYPE_CHECKING:
    from rmatk_export.bisect import Bisection

_LEFT, _WIDTH = 8, 284
_FLOOR = 9  # decades below 1 that a profile shows: float64 against float32 ends there


def spread(stage: StageResult) -> str:
    """How many images lie in each decade of 1 - cosine, close on the left, with the tolerance as a line."""
    step, most = _WIDTH / DECADES, max(stage.spread)
    bars = []
    for number, count in enumerate(reversed(stage.spread)):
        if count:
            high, wide = 4 + 46 * count / most, step - 2
            x, y = _LEFT + number * step, 84 - high
            bars.append(
                f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"/>'
                f'<text x="{x + step / 2:.1f}" y="{y - 3:.1f}" text-anchor="middle">{count}</text>'
            )
    limit = ""
    if stage.tolerance is not None:
        x = _LEFT + (DECADES + math.log10(1 - stage.tolerance.min_cosine)) * step
        limit = f'<path class="limit" d="M{x:.1f} 20V84"/>'
    ticks = "".join(
        f'<text x="{_LEFT + (DECADES + power) * step:.1f}" y="98" text-anchor="middle">1e{power}</text>'
        for power in range(2 - DECADES, 0, 4)
    )
    axis = f'<path d="M{_LEFT} 84H{_LEFT + _WIDTH}" class="axis"/>'
    return _svg(104, stage.stage, axis + "".join(bars) + limit + ticks)


def changes(stages: Sequence[StageResult]) -> str:
    """Each stage's change of accuracy with its interval, in percentage points around 0."""
    known = [(stage.stage, found) for stage in stages if (found := stage.accuracy_difference) is not None]
    far = max((max(-found.low, found.high) for _, found in known), default=0.0) or 1.0
    middle, half = _LEFT + _WIDTH / 2, 0.48 * _WIDTH
    lines = []
    for number, (name, found) in enumerate(known):
        y = 34 + 30 * number
        low, at, high = (middle + half * share / far for share in (found.low, found.difference, found.high))
        lines.append(
            f'<text x="{_LEFT}" y="{y - 8}">{escape(name)}</text>'
            f'<text x="{_LEFT + _WIDTH}" y="{y - 8}" text-anchor="end">{points(found)}</text>'
            f'<path class="mark" d="M{low:.1f} {y}H{high:.1f}"/><circle cx="{at:.1f}" cy="{y}" r="3.5"/>'
        )
    end = 44 + 30 * (len(known) - 1)
    axis = f'<path class="limit" d="M{middle:.1f} 26V{end}"/>'
    return _svg(end + 4, "", axis + "".join(lines), alone=True) if known else ""


def profile(found: Bisection) -> str:
    """Own (bars) and whole (line) deviation of every node, in the graph's order, on a logarithmic scale."""
    step = _WIDTH / len(found.nodes)

    def height(value: float | None) -> float:
        decades = _FLOOR if value is None else math.log10(max(value, 10.0**-_FLOOR)) + _FLOOR
        return 64 * min(decades, _FLOOR) / _FLOOR

    bars, line = [], []
    for number, node in enumerate(found.nodes):
        x = _LEFT + number * step
        kind = "wrong" if node == found.departs else "bar"
        hint = f"{node.node}: own {node.own}, output {node.output}"
        bars.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{92 - height(node.own):.1f}" width="{step:.2f}" '
            f'height="{height(node.own):.1f}"><title>{escape(hint)}</title></rect>'
        )
        line.append(f"{x + step / 2:.1f},{92 - height(node.output):.1f}")
    scale = "".join(
        f'<path d="M{_LEFT} {92 - height(10.0**power):.1f}H{_LEFT + _WIDTH}" class="axis"/>'
        f'<text x="{_LEFT}" y="{90 - height(10.0**power):.1f}">1e{power}</text>'
        for power in (-6, -3, 0)
    )
    over = f'<polyline points="{" ".join(line)}" class="over"/>'
    return _svg(96, found.stage, "".join(bars) + over + scale, alone=True)


def _svg(height: float, title: str, body: str, *, alone: bool = False) -> str:
    """A chart 300 wide; ``alone`` on its line, it does not grow with the page."""
    name = escape(title)
    head = f'<text x="{_LEFT}" y="14" class="title">{name}</text>' if title else ""
    kind = ' class="alone"' if alone else ""
    return f'<svg viewBox="0 0 300 {height:.0f}"{kind} role="img" aria-label="{name}">{head}{body}</svg>'
