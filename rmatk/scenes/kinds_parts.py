"""Mechanical parts as vector shapes: gears, fasteners, fittings, sections."""

from __future__ import annotations

from math import cos, pi, sin

from rmatk.scenes.shapes import (
    DARK,
    HOLE,
    LIGHT,
    Piece,
    arc,
    bar,
    disc,
    poly,
    rect,
    regular,
    rounded,
    stroke,
    teeth,
    turned,
)


def _ring_of(n: int, radius: float, size: float, shade: float = HOLE) -> list[Piece]:
    """``n`` small discs on a circle: bolt holes, balls."""
    turns = [2 * pi * i / n for i in range(n)]
    return [disc(radius * cos(a), radius * sin(a), size, shade=shade) for a in turns]


def _thread(x0: float, x1: float, y0: float, y1: float, n: int) -> list[Piece]:
    """Slanted grooves over a shank."""
    step = (y1 - y0) / n
    return [bar((x0, y0 + step * (i + 0.7)), (x1, y0 + step * (i + 0.2)), step * 0.4, DARK) for i in range(n)]


def _bolt() -> list[Piece]:
    head = [rect(-0.5, -0.95, 0.5, -0.5), rect(-0.2, -0.95, 0.2, -0.5, LIGHT), rect(-0.24, -0.5, 0.24, 0.95)]
    return [*head, *_thread(-0.24, 0.24, -0.1, 0.95, 7)]


def _screw() -> list[Piece]:
    body = [poly([(-0.48, -0.95), (0.48, -0.95), (0.18, -0.55), (-0.18, -0.55)])]
    body += [poly([(-0.18, -0.6), (0.18, -0.6), (0.14, 0.6), (0.0, 1.0), (-0.14, 0.6)])]
    return [*body, *_thread(-0.26, 0.26, -0.45, 0.75, 7), rect(-0.08, -0.98, 0.08, -0.83, HOLE)]


def _spring() -> list[Piece]:
    points = [(0.5 * (-1) ** i, -0.9 + 0.2 * i) for i in range(10)]
    return stroke(points, 0.13)


def _bearing() -> list[Piece]:
    return [
        disc(0, 0, 0.95),
        disc(0, 0, 0.74, shade=DARK),
        *_ring_of(9, 0.59, 0.15, LIGHT),
        disc(0, 0, 0.44),
        disc(0, 0, 0.26, shade=HOLE),
    ]


def _chain() -> list[Piece]:
    links: list[Piece] = []
    for x in (-0.62, 0.0, 0.62):
        links += [
            rounded(x - 0.42, -0.22, x + 0.42, 0.22, 0.21),
            rounded(x - 0.26, -0.08, x + 0.26, 0.08, 0.07, HOLE),
        ]
    return links


def _wing_nut() -> list[Piece]:
    wing = [
        disc(0.62, -0.28, 0.36, 0.27),
        poly([(0.2, 0.3), (0.3, -0.1), (0.62, -0.5), (0.85, -0.1), (0.4, 0.45)]),
    ]
    left = [Piece(p.points * [-1, 1], p.shade) for p in wing]
    return [*wing, *left, disc(0, 0.25, 0.42), disc(0, 0.25, 0.2, shade=HOLE)]


def _propeller() -> list[Piece]:
    blade = [disc(0.0, -0.55, 0.24, 0.42), bar((0, 0), (0, -0.4), 0.2)]
    return [p for d in (0, 120, 240) for p in turned(blade, d)] + [disc(0, 0, 0.2, shade=DARK)]


def _hand_wheel() -> list[Piece]:
    spokes = [bar((0, 0), (0.8 * cos(a), 0.8 * sin(a)), 0.13) for a in (-pi / 2, pi / 6, 5 * pi / 6)]
    return [disc(0, 0, 0.95), disc(0, 0, 0.72, shade=HOLE), *spokes, disc(0, 0, 0.22, shade=DARK)]


def _elbow() -> list[Piece]:
    return [
        arc(-0.6, 0.6, 0.85, -90, 0, 0.5),
        rect(-0.8, -0.55, -0.55, 0.05, DARK),
        rect(-0.05, 0.55, 0.55, 0.8, DARK),
    ]


def _tee() -> list[Piece]:
    return [
        rect(-0.9, -0.55, 0.9, -0.05),
        rect(-0.25, -0.3, 0.25, 0.7),
        rect(-0.98, -0.63, -0.72, 0.03, DARK),
        rect(0.72, -0.63, 0.98, 0.03, DARK),
        rect(-0.33, 0.55, 0.33, 0.8, DARK),
    ]


def _hinge() -> list[Piece]:
    holes = [disc(x, y, 0.1, shade=HOLE) for x in (-0.62, 0.62) for y in (-0.5, 0.0, 0.5)]
    return [
        rounded(-0.92, -0.8, -0.04, 0.8, 0.1),
        rounded(0.04, -0.8, 0.92, 0.8, 0.1),
        rect(-0.13, -0.88, 0.13, 0.88, DARK),
        rect(-0.13, -0.3, 0.13, 0.3, LIGHT),
        *holes,
    ]


def _angle_bracket() -> list[Piece]:
    return [
        poly([(-0.85, -0.9), (-0.4, -0.9), (-0.4, 0.1), (0.0, 0.45), (0.9, 0.45), (0.9, 0.9), (-0.85, 0.9)]),
        *[disc(-0.62, y, 0.11, shade=HOLE) for y in (-0.65, -0.1)],
        *[disc(x, 0.68, 0.11, shade=HOLE) for x in (0.15, 0.65)],
    ]


def _flange() -> list[Piece]:
    return [
        disc(0, 0, 0.95),
        *_ring_of(6, 0.72, 0.13),
        disc(0, 0, 0.5, shade=LIGHT),
        disc(0, 0, 0.36, shade=HOLE),
    ]


def _pulley() -> list[Piece]:
    return [
        disc(0, 0, 0.95),
        disc(0, 0, 0.83, shade=DARK),
        disc(0, 0, 0.7),
        *_ring_of(4, 0.42, 0.17),
        disc(0, 0, 0.1, shade=HOLE),
    ]


def _split_pin() -> list[Piece]:
    return [
        disc(0, -0.62, 0.3),
        disc(0, -0.62, 0.16, shade=HOLE),
        bar((-0.08, -0.4), (-0.22, 0.9), 0.12),
        bar((0.08, -0.4), (0.26, 0.7), 0.12),
    ]


def _rivet() -> list[Piece]:
    return [
        disc(0, -0.45, 0.62, 0.45),
        rect(-0.7, -0.45, 0.7, 0.1, HOLE),
        rect(-0.62, -0.45, 0.62, -0.3),
        rect(-0.24, -0.35, 0.24, 0.9),
    ]


def _beam() -> list[Piece]:
    return [rect(-0.75, -0.9, 0.75, -0.58), rect(-0.75, 0.58, 0.75, 0.9), rect(-0.14, -0.6, 0.14, 0.6)]


def _piston() -> list[Piece]:
    grooves = [rect(-0.55, y, 0.55, y + 0.07, DARK) for y in (-0.8, -0.62, -0.44)]
    return [
        rounded(-0.55, -0.95, 0.55, 0.15, 0.06),
        *grooves,
        bar((0, -0.05), (0, 0.75), 0.26),
        disc(0, 0.72, 0.26),
        disc(0, 0.72, 0.13, shade=HOLE),
        disc(0, -0.12, 0.12, shade=DARK),
    ]


def _bulb_socket_plug() -> list[Piece]:
    return [
        rounded(-0.5, -0.3, 0.5, 0.55, 0.15),
        rect(-0.33, -0.9, -0.17, -0.3, LIGHT),
        rect(0.17, -0.9, 0.33, -0.3, LIGHT),
        rect(-0.12, 0.5, 0.12, 0.95, DARK),
    ]


PARTS: dict[str, tuple[tuple[str, ...], list[Piece]]] = {
    "gear": (
        ("gear", "cog", "cogwheel"),
        [teeth(12, 0.97, 0.74), disc(0, 0, 0.55, shade=0.85), disc(0, 0, 0.26, shade=HOLE)],
    ),
    "washer": (("washer", "flat washer", "metal ring"), [disc(0, 0, 0.92), disc(0, 0, 0.46, shade=HOLE)]),
    "hex nut": (
        ("hex nut", "nut"),
        [regular(6, 0.95), disc(0, 0, 0.56, shade=LIGHT), disc(0, 0, 0.46, shade=HOLE)],
    ),
    "bolt": (("bolt", "hex bolt"), _bolt()),
    "screw": (("screw", "wood screw"), _screw()),
    "spring": (("spring", "coil spring"), _spring()),
    "bearing": (("bearing", "ball bearing"), _bearing()),
    "chain": (("chain", "chain links"), _chain()),
    "wing nut": (("wing nut", "butterfly nut"), _wing_nut()),
    "propeller": (("propeller", "fan rotor"), _propeller()),
    "hand wheel": (("hand wheel", "valve wheel"), _hand_wheel()),
    "pipe elbow": (("pipe elbow", "bent pipe"), _elbow()),
    "pipe tee": (("pipe tee", "tee fitting"), _tee()),
    "hinge": (("hinge", "door hinge"), _hinge()),
    "angle bracket": (("angle bracket", "corner bracket"), _angle_bracket()),
    "flange": (("flange", "pipe flange"), _flange()),
    "pulley": (("pulley", "belt wheel"), _pulley()),
    "split pin": (("split pin", "cotter pin"), _split_pin()),
    "rivet": (("rivet", "round head rivet"), _rivet()),
    "beam": (("beam", "steel beam", "girder"), _beam()),
    "piston": (("piston", "engine piston"), _piston()),
    "plug": (("plug", "power plug"), _bulb_socket_plug()),
}
