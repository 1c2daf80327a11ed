"""Polygons: the one primitive all object kinds are made of.

Everything is a polygon in the unit frame (x to the right, y down, about -1..1) with a shade, so that one
affine map of one point array poses a whole object, and Pillow rasterises it. A shade of 0 cuts a hole; 1 is
the object's own colour, less is a darker part (a grip, a groove), more a lighter one (a label, a highlight).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]

HOLE = 0.0
BODY = 1.0
DARK = 0.62
LIGHT = 1.3


@dataclass(frozen=True)
class Piece:
    """One polygon: points (P, 2) float32 in the unit frame, and its shade (0 cuts a hole)."""

    points: NDArray[np.floating[Any]]
    shade: float = BODY


def poly(points: Sequence[Point], shade: float = BODY) -> Piece:
    """A polygon through the given points."""
    return Piece(np.asarray(points, dtype=np.float32), shade)


def disc(x: float, y: float, rx: float, ry: float | None = None, shade: float = BODY) -> Piece:
    """A filled circle, or an ellipse where ``ry`` is given."""
    ry = rx if ry is None else ry
    turns = [2 * pi * i / 40 for i in range(40)]
    return poly([(x + rx * cos(a), y + ry * sin(a)) for a in turns], shade)


def rect(x0: float, y0: float, x1: float, y1: float, shade: float = BODY) -> Piece:
    """An upright rectangle between two corners."""
    return poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], shade)


def rounded(x0: float, y0: float, x1: float, y1: float, r: float, shade: float = BODY) -> Piece:
    """An upright rectangle with corners of radius ``r``."""
    corners = [(x1 - r, y0 + r, -90), (x1 - r, y1 - r, 0), (x0 + r, y1 - r, 90), (x0 + r, y0 + r, 180)]
    points = []
    for x, y, start in corners:
        for step in range(7):
            a = (start + 15 * step) * pi / 180
            points.append((x + r * cos(a), y + r * sin(a)))
    return poly(points, shade)


def bar(p: Point, q: Point, width: float, shade: float = BODY, width_q: float | None = None) -> Piece:
    """A straight bar from ``p`` to ``q`` with flat ends, tapering to ``width_q`` where that is given."""
    dx, dy = q[0] - p[0], q[1] - p[1]
    length = (dx * dx + dy * dy) ** 0.5
    nx, ny = -dy / length / 2, dx / length / 2
    wq = width if width_q is None else width_q
    return poly(
        [
            (p[0] + nx * width, p[1] + ny * width),
            (q[0] + nx * wq, q[1] + ny * wq),
            (q[0] - nx * wq, q[1] - ny * wq),
            (p[0] - nx * width, p[1] - ny * width),
        ],
        shade,
    )


def stroke(points: Sequence[Point], width: float, shade: float = BODY) -> list[Piece]:
    """A polyline of the given width with round joints and ends."""
    pieces = [disc(x, y, width / 2, shade=shade) for x, y in points]
    pieces += [bar(p, q, width, shade) for p, q in pairwise(points)]
    return pieces


def arc_points(x: float, y: float, r: float, start: float, stop: float, n: int = 24) -> list[Point]:
    """Points on a circle from ``start`` to ``stop`` degrees (0 is right, 90 is down)."""
    angles = [(start + (stop - start) * i / (n - 1)) * pi / 180 for i in range(n)]
    return [(x + r * cos(a), y + r * sin(a)) for a in angles]


def arc(x: float, y: float, r: float, start: float, stop: float, width: float, shade: float = BODY) -> Piece:
    """A band along a circle, ``width`` wide, from ``start`` to ``stop`` degrees."""
    outer = arc_points(x, y, r + width / 2, start, stop)
    inner = arc_points(x, y, r - width / 2, stop, start)
    return poly(outer + inner, shade)


def regular(
    n: int, r: float, phase: float = 0.0, x: float = 0.0, y: float = 0.0, shade: float = BODY
) -> Piece:
    """A regular polygon of ``n`` corners; ``phase`` in degrees."""
    angles = [2 * pi * i / n + phase * pi / 180 for i in range(n)]
    return poly([(x + r * cos(a), y + r * sin(a)) for a in angles], shade)


def teeth(n: int, outer: float, inner: float, duty: float = 0.5, shade: float = BODY) -> Piece:
    """A toothed wheel's outline; ``duty`` is the share of the pitch at the outer radius."""
    points: list[Point] = []
    for i in range(n):
        for part, r in (
            (0.0, inner),
            (0.5 - duty / 2, inner),
            (0.55 - duty / 2, outer),
            (0.45 + duty / 2, outer),
            (0.5 + duty / 2, inner),
        ):
            a = 2 * pi * (i + part) / n
            points.append((r * cos(a), r * sin(a)))
    return poly(points, shade)


def star(n: int, outer: float, inner: float, phase: float = -90.0, shade: float = BODY) -> Piece:
    """A star of ``n`` points."""
    points: list[Point] = []
    for i in range(2 * n):
        a = pi * i / n + phase * pi / 180
        r = outer if i % 2 == 0 else inner
        points.append((r * cos(a), r * sin(a)))
    return poly(points, shade)


def turned(pieces: Sequence[Piece], degrees: float, x: float = 0.0, y: float = 0.0) -> list[Piece]:
    """The same pieces turned about the origin, then moved by (x, y)."""
    a = degrees * pi / 180
    matrix = np.array([[cos(a), sin(a)], [-sin(a), cos(a)]], dtype=np.float32)
    return [Piece(p.points @ matrix + np.array([x, y], dtype=np.float32), p.shade) for p in pieces]
