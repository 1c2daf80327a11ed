"""Household things, containers, furniture and vehicles as vector shapes."""

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


def _cup() -> list[Piece]:
    return [
        disc(0.48, 0.05, 0.4, 0.38),
        disc(0.48, 0.05, 0.23, 0.22, HOLE),
        rounded(-0.75, -0.6, 0.45, 0.75, 0.14),
        disc(-0.15, -0.6, 0.6, 0.14, DARK),
    ]


def _bottle() -> list[Piece]:
    return [
        poly(
            [
                (-0.12, -0.8),
                (0.12, -0.8),
                (0.13, -0.45),
                (0.34, -0.15),
                (0.36, 0.85),
                (0.3, 0.97),
                (-0.3, 0.97),
                (-0.36, 0.85),
                (-0.34, -0.15),
                (-0.13, -0.45),
            ]
        ),
        rect(-0.15, -0.98, 0.15, -0.8, DARK),
        rect(-0.35, 0.1, 0.35, 0.6, LIGHT),
    ]


def _can() -> list[Piece]:
    return [
        rounded(-0.52, -0.85, 0.52, 0.9, 0.12),
        disc(0, -0.8, 0.5, 0.14, LIGHT),
        disc(0, -0.8, 0.38, 0.09, DARK),
        rect(-0.52, 0.72, 0.52, 0.77, DARK),
        rect(-0.52, -0.6, 0.52, -0.55, DARK),
    ]


def _jar() -> list[Piece]:
    return [
        rounded(-0.58, -0.6, 0.58, 0.93, 0.22),
        rounded(-0.45, -0.93, 0.45, -0.62, 0.06, DARK),
        rounded(-0.36, -0.15, 0.36, 0.5, 0.05, LIGHT),
    ]


def _box() -> list[Piece]:
    return [
        poly([(-0.85, -0.35), (0.15, -0.15), (0.15, 0.9), (-0.85, 0.6)]),
        poly([(0.15, -0.15), (0.88, -0.45), (0.88, 0.5), (0.15, 0.9)], DARK),
        poly([(-0.85, -0.35), (-0.1, -0.7), (0.88, -0.45), (0.15, -0.15)], LIGHT),
        poly([(-0.42, -0.26), (0.4, -0.57), (0.5, -0.54), (-0.3, -0.24)], 0.85),
    ]


def _bag() -> list[Piece]:
    return [
        poly([(-0.6, -0.3), (0.6, -0.3), (0.75, 0.95), (-0.75, 0.95)]),
        arc(0, -0.3, 0.38, 180, 360, 0.12),
        rect(-0.6, -0.3, 0.6, -0.18, DARK),
    ]


def _chair() -> list[Piece]:
    return [
        rect(-0.5, -0.95, -0.36, 0.95),
        rect(-0.5, 0.0, 0.55, 0.17),
        rect(0.41, 0.1, 0.55, 0.95),
        rect(-0.5, -0.9, -0.2, -0.1, DARK),
        rect(-0.4, 0.5, 0.45, 0.58, DARK),
    ]


def _umbrella() -> list[Piece]:
    top = (
        arc_points(0, 0.05, 0.95, 180, 360)
        + arc_points(0.63, 0.05, 0.32, 0, -180, 10)
        + arc_points(0, 0.05, 0.31, 0, -180, 10)
    )
    return [
        poly(top + arc_points(-0.63, 0.05, 0.32, 0, -180, 10)),
        bar((0, -0.95), (0, 0.75), 0.08, DARK),
        arc(-0.13, 0.75, 0.13, 0, 180, 0.08, DARK),
    ]


def _clock() -> list[Piece]:
    ticks = [disc(0.72 * x, 0.72 * y, 0.07, shade=DARK) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    return [
        disc(0, 0, 0.95, shade=DARK),
        disc(0, 0, 0.84, shade=LIGHT),
        *ticks,
        bar((0, 0.05), (0, -0.6), 0.09, 0.4),
        bar((-0.04, 0), (0.42, 0.2), 0.1, 0.4),
    ]


def _key() -> list[Piece]:
    return [
        disc(0, -0.6, 0.36),
        disc(0, -0.68, 0.15, shade=HOLE),
        rect(-0.1, -0.3, 0.1, 0.95),
        rect(0.1, 0.7, 0.36, 0.84),
        rect(0.1, 0.42, 0.3, 0.55),
    ]


def _lamp() -> list[Piece]:
    return [
        poly([(-0.3, -0.95), (0.3, -0.95), (0.65, -0.15), (-0.65, -0.15)], LIGHT),
        rect(-0.06, -0.15, 0.06, 0.8, DARK),
        rounded(-0.42, 0.78, 0.42, 0.95, 0.07),
    ]


def _teapot() -> list[Piece]:
    return [
        disc(0.0, 0.2, 0.6, 0.55),
        arc(0.6, 0.15, 0.3, -90, 90, 0.12),
        disc(0, -0.42, 0.12),
        poly([(-0.45, 0.45), (-0.98, -0.25), (-0.82, -0.32), (-0.42, 0.05)]),
        disc(0, -0.28, 0.32, 0.09, DARK),
    ]


def _bulb() -> list[Piece]:
    return [
        disc(0, -0.3, 0.62),
        poly([(-0.45, 0.05), (0.45, 0.05), (0.24, 0.5), (-0.24, 0.5)]),
        rounded(-0.25, 0.48, 0.25, 0.93, 0.08, DARK),
        rect(-0.25, 0.58, 0.25, 0.63, LIGHT),
        rect(-0.25, 0.73, 0.25, 0.78, LIGHT),
    ]


def _glasses() -> list[Piece]:
    return [
        disc(-0.5, 0, 0.44),
        disc(-0.5, 0, 0.31, shade=HOLE),
        disc(0.5, 0, 0.44),
        disc(0.5, 0, 0.31, shade=HOLE),
        arc(0, 0.02, 0.13, 180, 360, 0.1),
        bar((-0.9, -0.1), (-0.98, -0.4), 0.1),
        bar((0.9, -0.1), (0.98, -0.4), 0.1),
    ]


def _shirt() -> list[Piece]:
    return [
        poly(
            [
                (-0.3, -0.85),
                (0.3, -0.85),
                (0.95, -0.45),
                (0.75, -0.05),
                (0.5, -0.2),
                (0.5, 0.92),
                (-0.5, 0.92),
                (-0.5, -0.2),
                (-0.75, -0.05),
                (-0.95, -0.45),
            ]
        ),
        disc(0, -0.86, 0.24, 0.18, HOLE),
        rect(-0.5, 0.84, 0.5, 0.92, DARK),
    ]


def _shoe() -> list[Piece]:
    return [
        poly(
            [(-0.9, -0.5), (-0.35, -0.5), (-0.2, -0.15), (0.45, 0.1), (0.9, 0.2), (0.95, 0.45), (-0.9, 0.45)]
        ),
        rounded(-0.93, 0.4, 0.97, 0.6, 0.08, DARK),
        bar((-0.2, -0.25), (0.0, -0.02), 0.05, LIGHT),
        bar((-0.02, -0.15), (0.2, 0.06), 0.05, LIGHT),
    ]


def _bicycle() -> list[Piece]:
    wheels: list[Piece] = []
    for x in (-0.58, 0.58):
        wheels += [disc(x, 0.35, 0.4), disc(x, 0.35, 0.31, shade=HOLE)]
    frame = stroke([(-0.58, 0.35), (-0.2, -0.2), (0.4, -0.2), (0.0, 0.35), (-0.2, -0.2)], 0.08)
    return [
        *wheels,
        *frame,
        *stroke([(-0.58, 0.35), (0.0, 0.35)], 0.08),
        *stroke([(0.58, 0.35), (0.35, -0.45), (0.55, -0.5)], 0.08),
        bar((-0.35, -0.3), (-0.08, -0.3), 0.1, DARK),
    ]


def _car() -> list[Piece]:
    body = [
        (-0.97, 0.3),
        (-0.95, -0.02),
        (-0.55, -0.1),
        (-0.3, -0.45),
        (0.35, -0.45),
        (0.62, -0.08),
        (0.95, 0.02),
        (0.97, 0.3),
    ]
    return [
        poly(body),
        poly([(-0.42, -0.1), (-0.24, -0.37), (0.0, -0.37), (0.0, -0.1)], LIGHT + 0.2),
        poly([(0.07, -0.1), (0.07, -0.37), (0.31, -0.37), (0.48, -0.1)], LIGHT + 0.2),
        *[
            p
            for x in (-0.52, 0.54)
            for p in (disc(x, 0.32, 0.22, shade=0.3), disc(x, 0.32, 0.1, shade=LIGHT))
        ],
    ]


def _guitar() -> list[Piece]:
    return [
        disc(0, 0.58, 0.42, 0.38),
        disc(0, 0.08, 0.31, 0.27),
        rect(-0.06, -0.75, 0.06, 0.3, DARK),
        disc(0, 0.28, 0.14, shade=0.35),
        rounded(-0.12, -0.98, 0.12, -0.7, 0.05, DARK),
        rect(-0.16, 0.66, 0.16, 0.72, DARK),
    ]


HOME: dict[str, tuple[tuple[str, ...], list[Piece]]] = {
    "cup": (("cup", "mug"), _cup()),
    "bottle": (("bottle", "drinking bottle"), _bottle()),
    "can": (("can", "drink can", "tin can"), _can()),
    "jar": (("jar", "storage jar"), _jar()),
    "box": (("box", "carton"), _box()),
    "bag": (("bag", "carrier bag"), _bag()),
    "chair": (("chair", "seat"), _chair()),
    "table": (
        ("table", "desk"),
        [
            poly([(-0.7, -0.5), (0.7, -0.5), (0.95, -0.15), (-0.95, -0.15)], LIGHT),
            rect(-0.95, -0.15, 0.95, -0.02),
            rect(-0.9, -0.02, -0.74, 0.85, DARK),
            rect(0.74, -0.02, 0.9, 0.85, DARK),
        ],
    ),
    "umbrella": (("umbrella", "parasol"), _umbrella()),
    "clock": (("clock", "wall clock"), _clock()),
    "key": (("key", "door key"), _key()),
    "lamp": (("lamp", "table lamp"), _lamp()),
    "teapot": (("teapot", "tea pot"), _teapot()),
    "light bulb": (("light bulb", "bulb"), _bulb()),
    "glasses": (("glasses", "pair of spectacles"), _glasses()),
    "shirt": (("shirt", "t-shirt"), _shirt()),
    "shoe": (("shoe", "sneaker"), _shoe()),
    "bicycle": (("bicycle", "bike"), _bicycle()),
    "car": (("car", "automobile"), _car()),
    "guitar": (("guitar", "acoustic guitar"), _guitar()),
}
