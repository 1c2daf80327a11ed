"""Signs, symbols, letters and nature's outlines as vector shapes."""

from __future__ import annotations

from rmatk.scenes.shapes import (
    DARK,
    HOLE,
    LIGHT,
    Piece,
    Point,
    arc,
    arc_points,
    bar,
    disc,
    poly,
    rect,
    regular,
    star,
    stroke,
    turned,
)


def _heart() -> list[Piece]:
    return [
        disc(-0.43, -0.35, 0.49),
        disc(0.43, -0.35, 0.49),
        poly([(-0.87, -0.15), (0, -0.35), (0.87, -0.15), (0, 0.9)]),
    ]


def _crescent() -> list[Piece]:
    outer = arc_points(0, 0, 0.92, 60, 300, 30)
    return [poly(outer + arc_points(0.45, 0, 0.79, 270, 90, 30))]


def _house() -> list[Piece]:
    return [
        rect(-0.7, -0.15, 0.7, 0.9),
        poly([(-0.95, -0.1), (0, -0.95), (0.95, -0.1)], DARK),
        rect(-0.15, 0.3, 0.2, 0.9, 0.5),
        rect(-0.52, 0.1, -0.25, 0.4, LIGHT + 0.2),
        rect(0.32, 0.1, 0.55, 0.4, LIGHT + 0.2),
    ]


def _tree() -> list[Piece]:
    return [
        rect(-0.12, 0.4, 0.12, 0.97, DARK),
        disc(0, -0.4, 0.52),
        disc(-0.4, 0.0, 0.42),
        disc(0.4, 0.0, 0.42),
        disc(0, 0.15, 0.4),
    ]


def _fish() -> list[Piece]:
    return [
        disc(-0.15, 0, 0.72, 0.4),
        poly([(0.4, 0.0), (0.95, -0.42), (0.82, 0.0), (0.95, 0.42)]),
        disc(-0.58, -0.1, 0.07, shade=0.3),
        poly([(-0.2, -0.35), (0.15, -0.62), (0.2, -0.3)], DARK),
        arc(-0.6, 0, 0.3, -50, 50, 0.05, DARK),
    ]


def _bird() -> list[Piece]:
    return [
        disc(0.0, 0.1, 0.55, 0.36),
        disc(-0.5, -0.3, 0.26),
        poly([(-0.72, -0.4), (-0.98, -0.26), (-0.7, -0.2)], 1.5),
        poly([(0.4, 0.0), (0.97, -0.3), (0.9, 0.15), (0.45, 0.3)]),
        poly([(-0.15, 0.0), (0.45, -0.05), (0.1, 0.32)], DARK),
        bar((-0.08, 0.4), (-0.08, 0.85), 0.06, DARK),
        bar((0.12, 0.4), (0.12, 0.85), 0.06, DARK),
        disc(-0.56, -0.36, 0.05, shade=0.2),
    ]


def _flower() -> list[Piece]:
    petals = [p for d in range(0, 360, 60) for p in turned([disc(0, -0.56, 0.3, 0.4)], d)]
    return [*petals, disc(0, 0, 0.3, shade=DARK)]


def _butterfly() -> list[Piece]:
    wing = [
        disc(0.5, -0.35, 0.42, 0.45),
        disc(0.4, 0.4, 0.33, 0.38),
        disc(0.52, -0.35, 0.18, shade=LIGHT),
        disc(0.42, 0.42, 0.13, shade=DARK),
    ]
    return [*wing, *[Piece(p.points * [-1, 1], p.shade) for p in wing], disc(0, 0, 0.1, 0.7, 0.45)]


def _leaf() -> list[Piece]:
    right = [(0.0, -0.95), (0.4, -0.5), (0.52, 0.0), (0.35, 0.45), (0.0, 0.75)]
    left = [(-x, y) for x, y in reversed(right)]
    veins = [bar((0, y), (s * 0.33, y - 0.2), 0.04, DARK) for y in (-0.25, 0.05, 0.35) for s in (-1, 1)]
    return [poly(right + left), bar((0, -0.8), (0, 0.98), 0.07, DARK), *veins]


def _cloud() -> list[Piece]:
    return [
        disc(-0.5, 0.15, 0.38),
        disc(0.52, 0.18, 0.36),
        disc(-0.08, -0.15, 0.5),
        disc(0.3, -0.05, 0.36),
        rect(-0.5, 0.1, 0.5, 0.53),
    ]


def _sun() -> list[Piece]:
    rays = [
        p for d in range(0, 360, 45) for p in turned([poly([(-0.12, -0.62), (0.12, -0.62), (0, -0.98)])], d)
    ]
    return [disc(0, 0, 0.5), *rays]


def _mushroom() -> list[Piece]:
    return [
        poly(arc_points(0, 0.0, 0.85, 180, 360)),
        poly([(-0.25, -0.05), (0.25, -0.05), (0.32, 0.9), (-0.32, 0.9)], LIGHT + 0.2),
        disc(-0.35, -0.35, 0.15, shade=LIGHT + 0.3),
        disc(0.25, -0.5, 0.13, shade=LIGHT + 0.3),
        disc(0.5, -0.15, 0.1, shade=LIGHT + 0.3),
    ]


def _apple() -> list[Piece]:
    return [
        disc(-0.28, 0.15, 0.52, 0.66),
        disc(0.28, 0.15, 0.52, 0.66),
        bar((0, -0.4), (0.1, -0.85), 0.09, 0.4),
        disc(0.36, -0.72, 0.26, 0.13, LIGHT),
    ]


def _airplane() -> list[Piece]:
    return [
        disc(0, 0, 0.14, 0.97),
        poly(
            [
                (-0.1, -0.2),
                (0.1, -0.2),
                (0.97, 0.3),
                (0.97, 0.45),
                (0.1, 0.2),
                (-0.1, 0.2),
                (-0.97, 0.45),
                (-0.97, 0.3),
            ]
        ),
        poly([(-0.08, 0.6), (0.08, 0.6), (0.4, 0.82), (0.4, 0.93), (-0.4, 0.93), (-0.4, 0.82)], DARK),
    ]


def _boat() -> list[Piece]:
    return [
        poly([(-0.92, 0.4), (0.92, 0.4), (0.6, 0.85), (-0.6, 0.85)], DARK),
        rect(-0.05, -0.95, 0.05, 0.45, 0.5),
        poly([(0.1, -0.88), (0.75, 0.28), (0.1, 0.28)]),
        poly([(-0.1, -0.6), (-0.6, 0.28), (-0.1, 0.28)], LIGHT),
    ]


def _anchor() -> list[Piece]:
    return [
        disc(0, -0.75, 0.2),
        disc(0, -0.75, 0.09, shade=HOLE),
        bar((0, -0.58), (0, 0.85), 0.14),
        bar((-0.4, -0.42), (0.4, -0.42), 0.13),
        arc(0, 0.15, 0.7, 15, 165, 0.15),
        poly([(0.95, 0.05), (0.85, 0.55), (0.5, 0.3)]),
        poly([(-0.95, 0.05), (-0.85, 0.55), (-0.5, 0.3)]),
    ]


def _warning() -> list[Piece]:
    return [
        regular(3, 1.0, -90, y=0.15),
        regular(3, 0.68, -90, y=0.15, shade=LIGHT + 0.2),
        bar((0, -0.2), (0, 0.28), 0.15, 0.35),
        disc(0, 0.43, 0.09, shade=0.35),
    ]


def _no_entry() -> list[Piece]:
    return [disc(0, 0, 0.95), rect(-0.6, -0.17, 0.6, 0.17, 1.9)]


def _prohibition() -> list[Piece]:
    return [disc(0, 0, 0.95), disc(0, 0, 0.7, shade=HOLE), bar((-0.6, -0.6), (0.6, 0.6), 0.22)]


def _stop() -> list[Piece]:
    return [
        regular(8, 0.98, 22.5),
        regular(8, 0.86, 22.5, shade=LIGHT),
        regular(8, 0.78, 22.5),
        rect(-0.5, -0.16, 0.5, 0.16, 1.9),
    ]


def _letter(strokes: list[list[Point]]) -> list[Piece]:
    return [p for s in strokes for p in stroke(s, 0.27)]


_LETTERS: dict[str, list[list[Point]]] = {
    "A": [[(-0.65, 0.85), (0, -0.85), (0.65, 0.85)], [(-0.38, 0.25), (0.38, 0.25)]],
    "E": [[(0.5, -0.85), (-0.5, -0.85), (-0.5, 0.85), (0.5, 0.85)], [(-0.5, 0.0), (0.35, 0.0)]],
    "H": [[(-0.55, -0.85), (-0.55, 0.85)], [(0.55, -0.85), (0.55, 0.85)], [(-0.55, 0), (0.55, 0)]],
    "K": [[(-0.5, -0.85), (-0.5, 0.85)], [(0.55, -0.85), (-0.4, 0.05), (0.6, 0.85)]],
    "M": [[(-0.7, 0.85), (-0.6, -0.85), (0, 0.3), (0.6, -0.85), (0.7, 0.85)]],
    "R": [
        [(-0.45, 0.85), (-0.45, -0.85), (0.25, -0.85), (0.5, -0.6), (0.5, -0.2), (0.25, 0.0), (-0.4, 0.0)],
        [(0.1, 0.05), (0.55, 0.85)],
    ],
    "S": [
        [
            (0.5, -0.6),
            (0.25, -0.85),
            (-0.25, -0.85),
            (-0.5, -0.6),
            (-0.45, -0.2),
            (0.4, 0.15),
            (0.5, 0.55),
            (0.25, 0.85),
            (-0.25, 0.85),
            (-0.5, 0.6),
        ]
    ],
    "T": [[(-0.65, -0.85), (0.65, -0.85)], [(0, -0.8), (0, 0.85)]],
    "X": [[(-0.6, -0.85), (0.6, 0.85)], [(0.6, -0.85), (-0.6, 0.85)]],
    "Z": [[(-0.6, -0.85), (0.6, -0.85), (-0.6, 0.85), (0.6, 0.85)]],
}

SIGNS: dict[str, tuple[tuple[str, ...], list[Piece]]] = {
    "arrow": (
        ("arrow", "arrow sign"),
        [rect(-0.95, -0.2, 0.15, 0.2), poly([(0.1, -0.65), (0.97, 0), (0.1, 0.65)])],
    ),
    "cross": (("cross", "plus sign"), [rect(-0.25, -0.9, 0.25, 0.9), rect(-0.9, -0.25, 0.9, 0.25)]),
    "star": (("star", "five-pointed star"), [star(5, 1.0, 0.42)]),
    "heart": (("heart", "heart shape"), _heart()),
    "crescent": (("crescent", "crescent moon"), _crescent()),
    "triangle": (("triangle", "triangular plate"), [regular(3, 1.0, -90, y=0.2)]),
    "square": (("square", "square plate"), [rect(-0.8, -0.8, 0.8, 0.8)]),
    "disc": (("disc", "round plate"), [disc(0, 0, 0.9)]),
    "lightning bolt": (
        ("lightning bolt", "lightning"),
        [
            poly(
                [
                    (0.2, -0.97),
                    (-0.5, 0.12),
                    (-0.05, 0.12),
                    (-0.25, 0.97),
                    (0.5, -0.2),
                    (0.05, -0.2),
                    (0.45, -0.97),
                ]
            )
        ],
    ),
    "drop": (("drop", "water drop"), [disc(0, 0.35, 0.58), poly([(-0.54, 0.15), (0, -0.97), (0.54, 0.15)])]),
    "flag": (
        ("flag", "banner"),
        [
            rect(-0.72, -0.95, -0.6, 0.97, DARK),
            poly([(-0.6, -0.9), (0.8, -0.9), (0.5, -0.42), (0.8, 0.05), (-0.6, 0.05)]),
        ],
    ),
    "cloud": (("cloud", "cloud symbol"), _cloud()),
    "sun": (("sun", "sun symbol"), _sun()),
    "house": (("house", "cottage"), _house()),
    "tree": (("tree", "leafy tree"), _tree()),
    "leaf": (("leaf", "tree leaf"), _leaf()),
    "fish": (("fish", "swimming fish"), _fish()),
    "bird": (("bird", "small bird"), _bird()),
    "flower": (("flower", "blossom"), _flower()),
    "butterfly": (("butterfly", "moth"), _butterfly()),
    "mushroom": (("mushroom", "toadstool"), _mushroom()),
    "apple": (("apple", "apple fruit"), _apple()),
    "airplane": (("airplane", "aeroplane", "plane"), _airplane()),
    "boat": (("boat", "sailing boat"), _boat()),
    "anchor": (("anchor", "ship anchor"), _anchor()),
    "warning sign": (("warning sign", "hazard triangle"), _warning()),
    "no entry sign": (("no entry sign", "do not enter sign"), _no_entry()),
    "prohibition sign": (("prohibition sign", "forbidden sign"), _prohibition()),
    "stop sign": (("stop sign", "octagonal stop sign"), _stop()),
    **{
        f"letter {name.lower()}": (
            (f"letter {name.lower()}", f"capital letter {name.lower()}"),
            _letter(strokes),
        )
        for name, strokes in _LETTERS.items()
    },
}
