"""Hand tools as vector shapes."""

from __future__ import annotations

from rmatk.scenes.shapes import DARK, HOLE, LIGHT, Piece, arc, bar, disc, poly, rect, regular, rounded, stroke


def _wrench() -> list[Piece]:
    return [
        bar((0, -0.55), (0, 0.6), 0.26),
        disc(0, -0.62, 0.36),
        rect(-0.15, -1.0, 0.15, -0.6, HOLE),
        disc(0, 0.68, 0.3),
        regular(6, 0.17, y=0.68, shade=HOLE),
    ]


def _pliers() -> list[Piece]:
    return [
        bar((-0.1, 0.0), (-0.45, 0.95), 0.2, DARK),
        bar((0.1, 0.0), (0.45, 0.95), 0.2, DARK),
        poly([(-0.3, 0.05), (-0.26, -0.4), (-0.02, -0.95), (-0.02, -0.1)]),
        poly([(0.3, 0.05), (0.26, -0.4), (0.02, -0.95), (0.02, -0.1)]),
        disc(0, 0, 0.25),
        disc(0, 0, 0.09, shade=DARK),
    ]


def _saw() -> list[Piece]:
    points = [(-0.95, -0.12), (0.4, -0.4), (0.4, 0.3)]
    n = 12
    for i in range(n):
        x = 0.35 - 1.3 * i / n
        points += [(x, 0.32 - 0.1 * i / n), (x - 0.055, 0.2 - 0.1 * i / n)]
    return [
        poly(points),
        rounded(0.35, -0.45, 0.95, 0.42, 0.18, DARK),
        rounded(0.52, -0.22, 0.8, 0.2, 0.12, HOLE),
    ]


def _scissors() -> list[Piece]:
    return [
        bar((-0.3, 0.45), (0.16, -0.95), 0.22, width_q=0.04),
        bar((0.3, 0.45), (-0.16, -0.95), 0.22, width_q=0.04),
        disc(-0.38, 0.65, 0.31, shade=DARK),
        disc(-0.38, 0.65, 0.16, shade=HOLE),
        disc(0.38, 0.65, 0.31, shade=DARK),
        disc(0.38, 0.65, 0.16, shade=HOLE),
    ]


def _shovel() -> list[Piece]:
    return [
        bar((0, -0.8), (0, 0.2), 0.13, DARK),
        rounded(-0.26, -0.98, 0.26, -0.66, 0.1, DARK),
        rounded(-0.13, -0.88, 0.13, -0.77, 0.05, HOLE),
        poly([(-0.36, 0.1), (0.36, 0.1), (0.34, 0.6), (0, 1.0), (-0.34, 0.6)]),
    ]


def _axe() -> list[Piece]:
    return [
        bar((0, -0.95), (0.08, 0.95), 0.15, DARK),
        poly([(-0.06, -0.85), (0.45, -0.98), (0.72, -0.5), (0.45, -0.05), (-0.06, -0.35)]),
    ]


def _drill() -> list[Piece]:
    return [
        rounded(-0.6, -0.65, 0.45, -0.1, 0.15),
        poly([(-0.5, -0.15), (-0.1, -0.15), (-0.2, 0.85), (-0.6, 0.85)]),
        rect(0.45, -0.55, 0.62, -0.2, DARK),
        bar((0.6, -0.38), (1.0, -0.38), 0.08, LIGHT),
        rounded(-0.68, 0.7, -0.08, 0.95, 0.06, DARK),
    ]


def _rake() -> list[Piece]:
    tines = [rect(x - 0.045, 0.55, x + 0.045, 0.95) for x in (-0.6, -0.36, -0.12, 0.12, 0.36, 0.6)]
    return [bar((0, -0.95), (0, 0.5), 0.11, DARK), rect(-0.66, 0.42, 0.66, 0.58), *tines]


def _clamp() -> list[Piece]:
    return [
        arc(0.0, -0.1, 0.6, 90, 290, 0.24),
        rect(0.0, 0.38, 0.3, 0.62),
        rect(0.1, -0.78, 0.35, -0.5),
        bar((0.22, 0.2), (0.22, 0.95), 0.1, DARK),
        rect(0.05, 0.08, 0.4, 0.2, DARK),
        rect(0.02, 0.86, 0.42, 0.96),
    ]


def _magnet() -> list[Piece]:
    return [
        arc(0, -0.15, 0.6, 180, 360, 0.42),
        rect(-0.81, -0.16, -0.39, 0.5),
        rect(0.39, -0.16, 0.81, 0.5),
        rect(-0.81, 0.5, -0.39, 0.85, LIGHT + 0.3),
        rect(0.39, 0.5, 0.81, 0.85, LIGHT + 0.3),
    ]


TOOLS: dict[str, tuple[tuple[str, ...], list[Piece]]] = {
    "hammer": (
        ("hammer", "claw hammer"),
        [
            bar((0, -0.6), (0, 0.97), 0.2, DARK),
            poly([(-0.35, -0.92), (0.45, -0.92), (0.75, -0.66), (0.4, -0.5), (-0.35, -0.5)]),
            rect(-0.66, -0.97, -0.35, -0.45),
        ],
    ),
    "wrench": (("wrench", "spanner"), _wrench()),
    "screwdriver": (
        ("screwdriver", "flat screwdriver"),
        [
            rounded(-0.24, -0.95, 0.24, -0.05, 0.12, DARK),
            rect(-0.08, -0.05, 0.08, 0.8),
            poly([(-0.14, 0.7), (0.14, 0.7), (0.1, 0.97), (-0.1, 0.97)]),
        ],
    ),
    "pliers": (("pliers", "pair of pliers"), _pliers()),
    "saw": (("saw", "hand saw"), _saw()),
    "scissors": (("scissors", "pair of scissors"), _scissors()),
    "shovel": (("shovel", "spade"), _shovel()),
    "axe": (("axe", "hatchet"), _axe()),
    "drill": (("drill", "power drill"), _drill()),
    "rake": (("rake", "garden rake"), _rake()),
    "clamp": (("clamp", "screw clamp"), _clamp()),
    "magnet": (("magnet", "horseshoe magnet"), _magnet()),
    "knife": (
        ("knife", "blade"),
        [
            poly([(-0.14, 0.25), (-0.16, -0.7), (0.02, -0.98), (0.16, -0.6), (0.16, 0.25)]),
            rounded(-0.15, 0.22, 0.17, 0.97, 0.1, DARK),
        ],
    ),
    "paint brush": (
        ("paint brush", "brush"),
        [
            bar((0, -0.95), (0, 0.0), 0.16, DARK, 0.26),
            rect(-0.34, -0.05, 0.34, 0.28, LIGHT),
            poly([(-0.34, 0.28), (0.34, 0.28), (0.28, 0.92), (0.0, 0.98), (-0.28, 0.92)]),
        ],
    ),
    "funnel": (
        ("funnel", "filling funnel"),
        [
            poly([(-0.8, -0.8), (0.8, -0.8), (0.14, 0.15), (0.1, 0.95), (-0.1, 0.95), (-0.14, 0.15)]),
            disc(0, -0.8, 0.8, 0.16, DARK),
        ],
    ),
    "ladder": (
        ("ladder", "step ladder"),
        [
            bar((-0.38, 0.95), (-0.28, -0.95), 0.12),
            bar((0.38, 0.95), (0.28, -0.95), 0.12),
            *[rect(-0.34, y, 0.34, y + 0.1) for y in (-0.7, -0.35, 0.0, 0.35, 0.68)],
        ],
    ),
    "hook": (
        ("hook", "crane hook"),
        [
            arc(0, 0.35, 0.42, -60, 190, 0.24),
            bar((0.05, -0.5), (0.12, 0.0), 0.2),
            disc(0.05, -0.68, 0.27),
            disc(0.05, -0.68, 0.13, shade=HOLE),
        ],
    ),
    "paper clip": (
        ("paper clip", "wire clip"),
        stroke(
            [
                (0.1, 0.5),
                (0.1, -0.5),
                (-0.05, -0.66),
                (-0.2, -0.5),
                (-0.2, 0.7),
                (0.0, 0.9),
                (0.22, 0.75),
                (0.3, 0.6),
                (0.3, -0.75),
                (0.1, -0.92),
                (-0.25, -0.92),
                (-0.4, -0.75),
                (-0.4, 0.45),
            ],
            0.1,
        ),
    ),
}
