"""Fills: the colours and materials of objects, as colour fields with real texture.

Patterns (striped, dotted ...) mix a second colour; materials (metal, glass, cardboard ...) bring grain,
relief and highlights. All work on float32 fields of the whole canvas; the object's mask cuts them out
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmatk.scenes.colours import Rgb
from rmatk.scenes.textures import Grey, sample

Field = NDArray[np.floating[Any]]

_WHITE = np.ones(3, dtype=np.float32)


@dataclass(frozen=True)
class Surface:
    """A covered canvas: colour (S, S, 3) float32 about 0..1, gloss of its highlights, how strongly its
    relief shades.
    """

    colour: Field
    gloss: float = 0.0
    relief: float = 0.35
    opacity: float = 1.0


def coordinates(rng: np.random.Generator, size: int, angle: float | None = None) -> tuple[Grey, Grey]:
    """Coordinates (u, v), each (size, size) float32 in 0..1 across the canvas, turned by a random angle."""
    a = float(rng.uniform(0, 2 * np.pi)) if angle is None else angle
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    c, s = np.float32(np.cos(a)), np.float32(np.sin(a))
    return axis[None, :] * c + axis[:, None] * s, axis[:, None] * c - axis[None, :] * s


def shaded(colour: Rgb, light: Grey) -> Field:
    """A colour (3,) times a light field (S, S); dark colours get an additive part, so that black too shows
    its grain.
    """
    return light[:, :, None] * (colour * 0.92 + 0.05)


def mixed(first: Rgb, second: Rgb, share: Grey | NDArray[np.bool_]) -> Field:
    """``first`` where share is 0, ``second`` where it is 1; share (S, S)."""
    return first + share[:, :, None].astype(np.float32) * (second - first)


def _mottled(colour: Field, rng: np.random.Generator, size: int, amount: float = 0.04) -> Field:
    return colour * (1 + amount * sample("pink", rng, size)[:, :, None])


def _solid(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    return Surface(_mottled(np.broadcast_to(c, (size, size, 3)), rng, size, 0.02), 0.1)


def _striped(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    u, _ = coordinates(rng, size)
    share = (u * rng.uniform(7, 14)) % 1.0 < rng.uniform(0.35, 0.5)
    return Surface(_mottled(mixed(c, d, share), rng, size), 0.1)


def _zigzag(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    u, v = coordinates(rng, size)
    n = rng.uniform(6, 10)
    share = (u * n + np.abs((v * n * 0.7) % 1.0 - 0.5) * 1.4) % 1.0 < 0.45
    return Surface(_mottled(mixed(c, d, share), rng, size), 0.1)


def _dotted(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    u, v = coordinates(rng, size)
    n = rng.uniform(7, 12)
    share = ((u * n) % 1.0 - 0.5) ** 2 + ((v * n) % 1.0 - 0.5) ** 2 < rng.uniform(0.27, 0.36) ** 2
    return Surface(_mottled(mixed(c, d, share), rng, size), 0.1)


def _checkered(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    u, v = coordinates(rng, size)
    n = rng.uniform(6, 11)
    share = ((u * n) % 1.0 < 0.5) ^ ((v * n) % 1.0 < 0.5)
    return Surface(_mottled(mixed(c, d, share), rng, size), 0.1)


def _gradient(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    u, _ = coordinates(rng, size)
    return Surface(_mottled(mixed(c, d, np.clip(u * 1.5 + 0.45, 0, 1)), rng, size), 0.1)


def _metal(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    angle = float(rng.uniform(0, 2 * np.pi))
    u, _ = coordinates(rng, size, angle)
    bands = np.sin(u * rng.uniform(9, 20) + rng.uniform(0, 6) + 0.5 * sample("smooth", rng, size, 1.5))
    brushed = sample("fibre", rng, size, 1.0, angle + np.pi / 2)
    light = 0.72 + 0.33 * bands + 0.1 * brushed
    glare = np.clip(bands - 0.55, 0, 1)[:, :, None] * rng.uniform(0.8, 1.5)
    return Surface(shaded(c, light) + glare * (0.6 * _WHITE + 0.4 * c), 1.0, 0.7)


def _glass(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    wave = sample("smooth", rng, size, 1.3)
    u, _ = coordinates(rng, size)
    streak = np.exp(-(((u + rng.uniform(-0.25, 0.25)) / 0.03) ** 2)) + 0.6 * np.exp(
        -(((u + rng.uniform(-0.3, 0.3)) / 0.015) ** 2)
    )
    colour = shaded(c * 0.75 + 0.25, 0.85 + 0.12 * wave) + (streak * 0.7)[:, :, None]
    return Surface(colour, 1.3, 0.5, float(rng.uniform(0.4, 0.6)))


def _cardboard(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    angle = float(rng.uniform(0, 2 * np.pi))
    u, v = coordinates(rng, size, angle)
    flutes = np.sin(u * rng.uniform(90, 170)) * rng.uniform(0.03, 0.12)
    light = 0.9 + flutes + 0.06 * sample("fibre", rng, size, 1.0, angle) + 0.05 * sample("pink", rng, size)
    crease = np.exp(-(((v + rng.uniform(-0.3, 0.3)) / 0.012) ** 2)) * rng.uniform(0, 0.35)
    tan = np.array([0.72, 0.56, 0.38], dtype=np.float32)
    return Surface(shaded(c * 0.75 + tan * 0.25 * (0.3 + c), light - crease), 0.0, 0.3)


def _paper(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    folds = sample("crumple", rng, size, float(rng.uniform(0.9, 2.0))) * rng.uniform(0.08, 0.2)
    colour = shaded(c * 0.9 + 0.1, 0.92 + folds + 0.03 * sample("white", rng, size))
    if rng.uniform() < 0.3:
        # lines of print
        _, v = coordinates(rng, size)
        rows = ((v * rng.uniform(14, 24)) % 1.0 < 0.4) & (sample("fibre", rng, size, 0.6, 0.0) > -0.3)
        colour = colour * (1 - 0.45 * rows[:, :, None].astype(np.float32))
    return Surface(colour, 0.0, 0.25)


def _plastic(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    film = rng.uniform() < 0.4
    wrinkle = sample("crumple", rng, size, 1.6) if film else sample("smooth", rng, size, 1.2)
    light = 0.85 + (0.16 if film else 0.07) * wrinkle
    glare = np.clip(wrinkle - (1.0 if film else 1.3), 0, 1)[:, :, None] * (0.75 if film else 0.4)
    return Surface(shaded(c, light) + glare, 1.2, 0.5, float(rng.uniform(0.7, 0.9)) if film else 1.0)


def _wooden(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    grain = sample("grain", rng, size, float(rng.uniform(0.8, 1.6)))
    brown = np.array([0.55, 0.36, 0.2], dtype=np.float32)
    return Surface(shaded(c * 0.8 + brown * 0.2 * (0.4 + c), 0.85 + 0.22 * grain), 0.1, 0.35)


def _fabric(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    light = (
        0.82
        + 0.2 * sample("weave", rng, size, float(rng.uniform(0.9, 1.6)))
        + 0.1 * sample("smooth", rng, size)
    )
    return Surface(shaded(c, light), 0.0, 0.3)


def _stone(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    light = 0.8 + 0.18 * sample("pink", rng, size, 1.2) + 0.14 * sample("white", rng, size, 1.4)
    grey = np.full(3, 0.45, dtype=np.float32)
    return Surface(shaded(c * 0.8 + grey * 0.2, light), 0.0, 0.55)


def _marble(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    u, _ = coordinates(rng, size)
    vein = np.abs(np.sin(u * rng.uniform(8, 16) + 2.2 * sample("cloud", rng, size, 1.5)))
    share = np.clip(1 - vein * 2.6, 0, 1) * 0.7
    target = np.ones(3, dtype=np.float32) * (0.95 if c.mean() < 0.55 else 0.25)
    return Surface(mixed(c, target, share) * (1 + 0.05 * sample("cloud", rng, size)[:, :, None]), 0.6, 0.4)


def _leather(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    light = (
        0.78
        + 0.2 * sample("cracks", rng, size, float(rng.uniform(0.5, 0.9)))
        + 0.06 * sample("cloud", rng, size)
    )
    return Surface(shaded(c, light), 0.4, 0.45)


def _rusty(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    rust = np.array([0.5, 0.23, 0.08], dtype=np.float32) * rng.uniform(0.8, 1.2)
    share = np.clip(sample("pink", rng, size, 1.4) * 1.3 + 0.1, 0, 0.9)
    return Surface(mixed(c, rust, share) * (0.9 + 0.15 * sample("fine", rng, size)[:, :, None]), 0.2, 0.5)


def _glittery(c: Rgb, d: Rgb, rng: np.random.Generator, size: int) -> Surface:
    spark = sample("white", rng, size, 1.5)
    return Surface(shaded(c, 0.75 + 0.15 * spark) + np.clip(spark - 1.2, 0, 1)[:, :, None] * 1.2, 0.6)


Fill = Callable[[Rgb, Rgb, np.random.Generator, int], Surface]

FILLS: dict[str, Fill] = {
    "solid": _solid,
    "striped": _striped,
    "zigzag": _zigzag,
    "dotted": _dotted,
    "checkered": _checkered,
    "gradient": _gradient,
    "metal": _metal,
    "glass": _glass,
    "cardboard": _cardboard,
    "paper": _paper,
    "plastic": _plastic,
    "wooden": _wooden,
    "fabric": _fabric,
    "stone": _stone,
    "marble": _marble,
    "leather": _leather,
    "rusty": _rusty,
    "glittery": _glittery,
}

# The colours in which a material is met most often: half of its scenes take one of these.
USUAL_COLOURS: dict[str, tuple[str, ...]] = {
    "metal": ("grey", "white"),
    "glass": ("white", "green", "brown"),
    "cardboard": ("brown",),
    "paper": ("white",),
    "wooden": ("brown",),
    "stone": ("grey",),
    "leather": ("brown", "black"),
    "marble": ("white",),
    "plastic": ("white", "blue"),
}
