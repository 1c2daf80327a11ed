"""Scraps: pieces of a material without a name, so that material is learnt apart from silhouette.

A sheet torn or folded, a lump, a flattened or crushed thing: each scene draws new outlines from the
generator.
"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from rmatk.scenes.fills import Field
from rmatk.scenes.kinds import Kind
from rmatk.scenes.shapes import DARK, LIGHT, Piece, poly
from rmatk.scenes.textures import sample

# Materials a scrap may be made of; patterns and paints are no materials.
MATERIALS: tuple[str, ...] = (
    "metal",
    "glass",
    "cardboard",
    "paper",
    "plastic",
    "wooden",
    "fabric",
    "stone",
    "leather",
    "rusty",
    "marble",
)

# What things are usually made of: half of the natural scenes show one of these in one of its usual materials.
NATURAL: dict[str, tuple[str, ...]] = {
    "bottle": ("glass", "plastic"),
    "jar": ("glass",),
    "can": ("metal",),
    "box": ("cardboard",),
    "cup": ("paper", "plastic", "glass"),
    "bag": ("paper", "plastic"),
    "envelope": ("paper",),
    "bucket": ("plastic", "metal"),
    "spoon": ("metal", "plastic"),
    "fork": ("metal", "plastic"),
    "bowl": ("glass", "plastic"),
    "pan": ("metal",),
    "chair": ("wooden",),
    "table": ("wooden",),
    "shirt": ("fabric",),
    "shoe": ("leather", "fabric"),
    "hat": ("fabric", "leather"),
    "key": ("metal",),
    "bolt": ("metal", "rusty"),
    "chain": ("metal", "rusty"),
    "light bulb": ("glass",),
    "comb": ("plastic",),
    "ladder": ("wooden", "metal"),
    "house": ("wooden", "stone"),
}

# How strongly a scrap of the material is crumpled at most.
_CRUMPLED = {"paper": 0.25, "plastic": 0.3, "metal": 0.35, "cardboard": 0.1, "fabric": 0.2, "leather": 0.1}


def scrap(rng: np.random.Generator) -> Kind:
    """A one-off kind with a random outline: a warped sheet, a torn one, or a lump, some with a fold or a
    label.
    """
    u = rng.uniform()
    outline = _sheet(rng) if u < 0.4 else _lump(rng, torn=u > 0.75)
    pieces = [outline]
    if rng.uniform() < 0.5:
        pieces.append(_inner(outline, rng, DARK if rng.uniform() < 0.5 else LIGHT))
    return Kind("piece", "scrap", ("piece",), tuple(pieces), 180.0, True)


def _sheet(rng: np.random.Generator) -> Piece:
    """A rectangle with shaken corners."""
    h = rng.uniform(0.35, 0.95)
    corners = np.array([[-0.95, -h], [0.95, -h], [0.95, h], [-0.95, h]]) + rng.normal(0, 0.09, (4, 2))
    return poly([(float(x), float(y)) for x, y in corners])


def _lump(rng: np.random.Generator, torn: bool) -> Piece:
    """A closed curve of a few harmonics; a torn one has a ragged edge as well."""
    n = 64
    strength, phase = rng.normal(0, 0.12, 5), rng.uniform(0, 2 * pi, 5)
    flat = rng.uniform(0.5, 1.0)
    points = []
    for i in range(n):
        a = 2 * pi * i / n
        r = 0.8 + sum(
            float(s) * cos((k + 1) * a + float(p)) / (k + 1) ** 0.5
            for k, (s, p) in enumerate(zip(strength, phase, strict=True))
        )
        r += float(rng.normal(0, 0.05)) if torn else 0.0
        points.append((r * cos(a), r * sin(a) * flat))
    return poly(points)


def _inner(outline: Piece, rng: np.random.Generator, shade: float) -> Piece:
    """A part of the outline in another tone: shrunk towards a point inside."""
    centre = rng.uniform(-0.25, 0.25, 2)
    shrink = rng.uniform(0.3, 0.7, 2)
    return Piece(((outline.points - centre) * shrink + centre).astype(np.float32), shade)


def crumpled(colour: Field, fill: str, rng: np.random.Generator) -> Field:
    """Shade a colour field (S, S, 3) by creases, as far as the material creases."""
    most = _CRUMPLED.get(fill, 0.0)
    if most == 0.0:
        return colour
    size = colour.shape[0]
    creases = sample("crumple", rng, size, float(rng.uniform(0.7, 2.0))) * np.float32(rng.uniform(0, most))
    result: Field = colour * (1 + creases)[:, :, None]
    return result
