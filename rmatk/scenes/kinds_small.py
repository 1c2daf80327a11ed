"""Small household things as vector shapes, simple enough for a table."""

from __future__ import annotations

from rmatk.scenes.shapes import (
    DARK,
    HOLE,
    LIGHT,
    Piece,
    arc,
    arc_points,
    bar,
    disc,
    poly,
    rect,
    rounded,
    stroke,
)

SMALL: dict[str, tuple[tuple[str, ...], list[Piece]]] = {
    "fork": (
        ("fork", "dinner fork"),
        [
            rect(-0.08, -0.3, 0.08, 0.97),
            rounded(-0.26, -0.5, 0.26, -0.15, 0.12),
            *[rect(x - 0.05, -0.97, x + 0.05, -0.4) for x in (-0.21, -0.07, 0.07, 0.21)],
        ],
    ),
    "spoon": (
        ("spoon", "tablespoon"),
        [
            disc(0, -0.6, 0.27, 0.38),
            disc(0, -0.6, 0.18, 0.28, DARK),
            bar((0, -0.25), (0, 0.97), 0.1, width_q=0.18),
        ],
    ),
    "bucket": (
        ("bucket", "pail"),
        [
            poly([(-0.7, -0.35), (0.7, -0.35), (0.5, 0.93), (-0.5, 0.93)]),
            disc(0, -0.35, 0.7, 0.16, DARK),
            arc(0, -0.3, 0.66, 180, 360, 0.07, DARK),
        ],
    ),
    "pan": (
        ("pan", "frying pan"),
        [
            disc(-0.28, 0.28, 0.66),
            disc(-0.28, 0.28, 0.54, shade=DARK),
            bar((0.15, -0.15), (0.95, -0.95), 0.18),
        ],
    ),
    "bowl": (
        ("bowl", "dish"),
        [
            poly([*arc_points(0, -0.2, 0.9, 0, 180), (-0.9, -0.2)]),
            disc(0, -0.2, 0.9, 0.17, DARK),
            rect(-0.35, 0.65, 0.35, 0.8),
        ],
    ),
    "comb": (
        ("comb", "hair comb"),
        [
            rounded(-0.95, -0.4, 0.95, -0.08, 0.1),
            *[rect(-0.9 + 0.15 * i, -0.1, -0.82 + 0.15 * i, 0.4) for i in range(13)],
        ],
    ),
    "envelope": (
        ("envelope", "letter envelope"),
        [
            rect(-0.95, -0.6, 0.95, 0.6),
            poly([(-0.95, -0.6), (0.95, -0.6), (0.0, 0.12)], DARK),
            poly([(-0.86, -0.6), (0.86, -0.6), (0.0, 0.03)], LIGHT),
        ],
    ),
    "padlock": (
        ("padlock", "lock"),
        [
            arc(0, -0.2, 0.42, 180, 360, 0.17),
            rect(-0.505, -0.2, -0.335, 0.1),
            rect(0.335, -0.2, 0.505, 0.1),
            rounded(-0.68, 0.0, 0.68, 0.93, 0.12),
            disc(0, 0.38, 0.13, shade=0.35),
            rect(-0.06, 0.4, 0.06, 0.7, 0.35),
        ],
    ),
    "hanger": (
        ("hanger", "coat hanger"),
        [
            *stroke([(-0.92, 0.5), (0.0, -0.2), (0.92, 0.5), (-0.92, 0.5)], 0.11),
            *stroke([(0, -0.2), (0, -0.45)], 0.1),
            arc(0.0, -0.62, 0.18, 120, 380, 0.1),
        ],
    ),
    "button": (
        ("button", "shirt button"),
        [
            disc(0, 0, 0.9),
            disc(0, 0, 0.68, shade=0.8),
            *[disc(x, y, 0.13, shade=HOLE) for x in (-0.24, 0.24) for y in (-0.24, 0.24)],
        ],
    ),
    "candle": (
        ("candle", "wax candle"),
        [
            rect(-0.26, -0.4, 0.26, 0.95),
            rect(-0.03, -0.55, 0.03, -0.38, 0.3),
            poly([(0, -1.0), (0.13, -0.7), (0.08, -0.54), (-0.08, -0.54), (-0.13, -0.7)], 1.7),
            disc(0, -0.4, 0.26, 0.07, LIGHT),
        ],
    ),
    "hat": (
        ("hat", "bowler hat"),
        [
            disc(0, 0.35, 0.95, 0.2),
            poly([*arc_points(0, 0.3, 0.58, 180, 360), (0.58, 0.35), (-0.58, 0.35)]),
            rect(-0.58, 0.12, 0.58, 0.3, DARK),
        ],
    ),
}
