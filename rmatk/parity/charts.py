"""Parity's results as SVG: how close the images are, how accuracy changed, where a graph diverges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from rmatk_runtime.parity.compare import DECADES
from rmatk_runtime.parity.stage import Bisection, StageResult
from rmatk_runtime.parity.table import points

_LEFT, _WIDTH = 8, 284
_GUTTER = 30  # left of a profile, where its scale is written
_DIGIT, _LINE = 5.2, 10  # how wide and high the figures over bars are, at most
_FLOOR = 9  # decades below 1 that a profile shows: float64 against float32 ends there


def spread(stage: StageResult) -> str:
    """How many images are in each decade of 1 - cosine, close on the left, with the tolerance as a line."""
    step, most = _WIDTH / DECADES, max(stage.spread)
    bars: list[str] = []
    figures: list[str] = []  # over all bars, a neighbour's may be higher
    last = (-1, 0, 0.0)  # bar, digits and height of the figure to the left
    for number, count in enumerate(reversed(stage.spread)):
        if count:
            high, digits = 4 + 46 * count / most, len(str(count))
            x, y = _LEFT + number * step, 96 - high
            at = y - 3
            if number == last[0] + 1 and (digits + last[1]) * _DIGIT / 2 > step and abs(at - last[2]) < _LINE:
                at = last[2] - _LINE
            last = (number, digits, at)
            bars.append(
                f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{high:.1f}"/>'
            )
            figures.append(f'<text class="figure" x="{x + step / 2:.1f}" y="{at:.1f}">{count}</text>')
    limit = ""
    if stage.tolerance is not None:
        x = _LEFT + (DECADES + math.log10(1 - stage.tolerance.min_cosine)) * step
        limit = f'<path class="limit" d="M{x:.1f} 30V96"/>'
    ticks = "".join(
        f'<text x="{_LEFT + (DECADES + power) * step:.1f}" y="110" text-anchor="middle">1e{power}</text>'
        for power in range(2 - DECADES, 0, 4)
    )
    axis = f'<path d="M{_LEFT} 96H{_LEFT + _WIDTH}" class="axis"/>'
    return _svg(116, stage.stage, axis + "".join(bars) + limit + "".join(figures) + ticks)


def changes(stages: Sequence[StageResult]) -> str:
    """Each stage's change of accuracy with its interval, in percentage points around 0."""
    known = [(stage.stage, found) for stage in stages if (found := stage.accuracy_difference) is not None]
    far = max((max(-found.low, found.high) for _, found in known), default=0.0) or 1.0
    middle, half = _LEFT + _WIDTH / 2, 0.48 * _WIDTH
    lines = []
    for number, (name, found) in enumerate(known):
        y = 20 + 30 * number
        low, at, high = (middle + half * share / far for share in (found.low, found.difference, found.high))
        lines.append(
            f'<text x="{_LEFT}" y="{y - 8}">{escape(name)}</text>'
            f'<text x="{_LEFT + _WIDTH}" y="{y - 8}" text-anchor="end">{points(found)}</text>'
            f'<path class="zero" d="M{middle:.1f} {y - 5}V{y + 5}"/>'
            f'<path class="mark" d="M{low:.1f} {y}H{high:.1f}"/><circle cx="{at:.1f}" cy="{y}" r="3.5"/>'
        )
    return _svg(30 * len(known), "", "".join(lines), alone=True) if known else ""


def profile(found: Bisection) -> str:
    """Own (bars) and whole (line) deviation of every node, in the graph's order, on a logarithmic scale."""
    left, right = _LEFT + _GUTTER, _LEFT + _WIDTH
    step = (right - left) / len(found.nodes)

    def level(value: float | None) -> float:
        decades = _FLOOR if value is None else math.log10(max(value, 10.0**-_FLOOR)) + _FLOOR
        return 72 - 64 * min(decades, _FLOOR) / _FLOOR

    bars, line = [], []
    for number, node in enumerate(found.nodes):
        x, y = left + number * step, level(node.own)
        hint = f"{node.node}: own {node.own}, output {node.output}"
        bars.append(
            f'<rect class="bar" x="{x:.2f}" y="{y:.1f}" width="{step:.2f}" height="{72 - y:.1f}">'
            f"<title>{escape(hint)}</title></rect>"
        )
        line.append(f"{x + step / 2:.1f},{level(node.output):.1f}")
        if node == found.departs:  # one bar among hundreds is too thin to be seen
            bars.append(f'<path class="limit" d="M{x + step / 2:.2f} 4V76"/>')
    scale = "".join(
        f'<path d="M{left} {level(10.0**power):.1f}H{right}" class="axis"/>'
        f'<text class="scale" x="{left - 4}" y="{level(10.0**power):.1f}">1e{power}</text>'
        for power in range(-_FLOOR, 1, 3)
    )
    over = f'<polyline points="{" ".join(line)}" class="over"/>'
    return _svg(80, "", scale + "".join(bars) + over, alone=True)


def _svg(height: float, title: str, body: str, *, alone: bool = False) -> str:
    """A chart 300 wide; ``alone`` on its line, it does not grow with the page."""
    name = escape(title)
    head = f'<text x="{_LEFT}" y="14" class="title">{name}</text>' if title else ""
    kind = ' class="alone"' if alone else ""
    return f'<svg viewBox="0 0 300 {height:.0f}"{kind} role="img" aria-label="{name}">{head}{body}</svg>'
