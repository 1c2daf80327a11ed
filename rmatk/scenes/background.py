"""Backgrounds: tables, walls, ground, sky, clutter.

Each background is a function (rng, size) -> (size, size, 3) float32 about 0..1, listed with the words
captions may use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from rmatk.scenes.colours import COLOURS, Rgb, rgb
from rmatk.scenes.fills import Field, coordinates, mixed, shaded
from rmatk.scenes.textures import sample

Paint = Callable[[np.random.Generator, int], Field]


@dataclass(frozen=True)
class Background:
    """A background: the words for it (first: its name) and its painter."""

    words: tuple[str, ...]
    paint: Paint


def _colour(*value: float) -> Rgb:
    return np.array(value, dtype=np.float32)


def _jitter(rng: np.random.Generator, base: Rgb, amount: float = 0.12) -> Rgb:
    result: Field = np.clip(
        base * rng.uniform(1 - amount, 1 + amount, 3).astype(np.float32) * rng.uniform(0.75, 1.2), 0, 1
    ).astype(np.float32)
    return result


def plain(rng: np.random.Generator, size: int, colour: str) -> Field:
    """A wall or sheet of one named colour, softly lit."""
    u, _ = coordinates(rng, size)
    light = 1 + rng.uniform(0, 0.3) * u + 0.02 * sample("pink", rng, size)
    return shaded(rgb(colour, rng), light)


def _gradient(rng: np.random.Generator, size: int) -> Field:
    u, _ = coordinates(rng, size)
    first, second = (rgb(str(rng.choice(COLOURS)), rng) for _ in range(2))
    return mixed(first, second, np.clip(u + 0.5, 0, 1))


def _noise(rng: np.random.Generator, size: int) -> Field:
    name = "cloud" if rng.uniform() < 0.6 else "smooth"
    parts = np.stack([sample(name, rng, size, float(rng.uniform(1.0, 2.5))) for _ in range(3)], axis=2)
    return np.clip(_jitter(rng, _colour(0.5, 0.48, 0.45), 0.3) + 0.16 * parts, 0, 1).astype(np.float32)


def _grained(
    tile: str, base: Rgb, depth: float, scale: tuple[float, float] = (0.8, 1.6), second: str = "pink"
) -> Paint:
    """A painter for ground that is one colour with one texture and soft larger variation."""

    def paint(rng: np.random.Generator, size: int) -> Field:
        light = (
            0.85
            + depth * sample(tile, rng, size, float(rng.uniform(*scale)))
            + 0.06 * sample(second, rng, size, 1.5)
        )
        return shaded(_jitter(rng, base), light)

    return paint


def _wood(rng: np.random.Generator, size: int) -> Field:
    angle = float(rng.uniform(0, 2 * np.pi))
    base = _jitter(rng, _colour(0.62, 0.42, 0.25), 0.15)
    _, v = coordinates(rng, size, angle)
    field = shaded(base, 0.85 + 0.17 * sample("grain", rng, size, float(rng.uniform(0.8, 1.8)), angle))
    planks = v * rng.uniform(3, 6) + rng.uniform()
    tone = 1 + 0.12 * np.sin(np.floor(planks) * 12.9)
    gap = np.where((planks % 1.0) < 0.04, 0.45, 1.0)
    result: Field = field * (tone * gap)[:, :, None].astype(np.float32)
    return result


def _tiles(rng: np.random.Generator, size: int) -> Field:
    u, v = coordinates(rng, size, float(rng.normal(0, 0.25)))
    n = rng.uniform(3, 7)
    joint = ((u * n) % 1.0 < 0.07) | ((v * n) % 1.0 < 0.07)
    tone = 1 + 0.07 * np.sin(np.floor(u * n) * 7.1 + np.floor(v * n) * 3.7 + 1.0)
    base = rgb(str(rng.choice(("white", "grey", "blue", "turquoise", "brown"))), rng) * 0.8 + 0.12
    field = shaded(base, tone + 0.03 * sample("pink", rng, size))
    return np.where(joint[:, :, None], rng.uniform(0.4, 0.9), field).astype(np.float32)


def _bricks(rng: np.random.Generator, size: int) -> Field:
    u, v = coordinates(rng, size, float(rng.normal(0, 0.1)))
    rows = v * rng.uniform(7, 12)
    columns = u * rng.uniform(3, 5) + 0.5 * (np.floor(rows) % 2)
    joint = (rows % 1.0 < 0.15) | (columns % 1.0 < 0.07)
    tone = 0.9 + 0.15 * np.sin(np.floor(rows) * 5.3 + np.floor(columns) * 9.1)
    field = shaded(_jitter(rng, _colour(0.62, 0.27, 0.19)), tone + 0.1 * sample("fine", rng, size))
    return np.where(joint[:, :, None], _jitter(rng, _colour(0.7, 0.68, 0.63)), field).astype(np.float32)


def _sky(rng: np.random.Generator, size: int) -> Field:
    v = np.linspace(0, 1, size, dtype=np.float32)[:, None] * np.ones((1, size), dtype=np.float32)
    field = mixed(_jitter(rng, _colour(0.3, 0.52, 0.85)), _jitter(rng, _colour(0.75, 0.85, 0.95), 0.05), v)
    cloud = np.clip(sample("cloud", rng, size, 1.6, 0.0) * 0.6 + rng.uniform(-0.5, 0.3), 0, 1)[:, :, None]
    result: Field = field * (1 - cloud) + 0.96 * cloud
    return result


def _sea(rng: np.random.Generator, size: int) -> Field:
    wave = sample("fibre", rng, size, float(rng.uniform(1, 2)), float(rng.normal(0, 0.2)))
    result: Field = (
        shaded(_jitter(rng, _colour(0.12, 0.36, 0.5)), 0.85 + 0.2 * wave + 0.1 * sample("cloud", rng, size))
        + np.clip(wave - 1.6, 0, 1)[:, :, None] * 0.5
    )
    return result


def _leaves(rng: np.random.Generator, size: int) -> Field:
    a, b = sample("leaves", rng, size, 1.3), sample("leaves", rng, size, 0.9)
    field = mixed(
        _jitter(rng, _colour(0.2, 0.4, 0.12)),
        _jitter(rng, _colour(0.55, 0.5, 0.18)),
        np.clip(a * 0.4 + 0.3, 0, 1),
    )
    return field * (0.85 + 0.25 * b)[:, :, None]


def _dead_leaves(rng: np.random.Generator, size: int) -> Field:
    result: Field = np.clip(
        np.stack([0.45 + 0.25 * sample("leaves", rng, size, 1.5)] * 3, axis=2)
        + 0.14 * np.stack([sample("leaves", rng, size, 2.0) for _ in range(3)], axis=2),
        0,
        1,
    ).astype(np.float32)
    return result


def _clutter(rng: np.random.Generator, size: int) -> Field:
    """Boxes, discs and bars of many colours heaped on top of one another."""
    image = Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(40, 200, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(14, 30))):
        x, y = rng.uniform(0, size, 2)
        r, a = rng.uniform(0.05, 0.2) * size, rng.uniform(0, np.pi)
        ink = tuple(int(v) for v in rgb(str(rng.choice(COLOURS)), rng) * 190 + 25)
        corners = int(rng.choice([2, 3, 4, 5, 16]))
        aspect = rng.uniform(0.3, 1)
        t = np.arange(corners if corners > 2 else 4) / max(corners, 4) * 2 * np.pi
        if corners == 2:
            t, aspect = t + np.array([0.2, -0.2, 0.2, -0.2]) * 3, 0.3
        px, py = np.cos(t) * r, np.sin(t) * r * aspect
        points = [
            (
                float(x + px[i] * np.cos(a) - py[i] * np.sin(a)),
                float(y + px[i] * np.sin(a) + py[i] * np.cos(a)),
            )
            for i in range(len(t))
        ]
        draw.polygon(points, fill=ink)
    field = np.asarray(image, dtype=np.float32) / 255
    return field * (0.9 + 0.1 * sample("pink", rng, size))[:, :, None]


BACKGROUNDS: dict[str, Background] = {
    "gradient": Background(("a colour gradient", "a smooth gradient"), _gradient),
    "blurred": Background(("a blurred background", "a soft, out of focus background"), _noise),
    "wood": Background(("a wooden table", "wooden planks", "a wood floor"), _wood),
    "tiles": Background(("a tiled floor", "square tiles"), _tiles),
    "bricks": Background(("a brick wall", "bricks"), _bricks),
    "grass": Background(
        ("grass", "a green lawn", "a meadow"), _grained("blades", _colour(0.3, 0.52, 0.18), 0.24)
    ),
    "straw": Background(("straw", "dry grass", "hay"), _grained("blades", _colour(0.75, 0.62, 0.33), 0.22)),
    "gravel": Background(
        ("gravel", "pebbles", "small stones"), _grained("cells", _colour(0.58, 0.55, 0.5), 0.24, (0.7, 1.4))
    ),
    "cobbles": Background(
        ("cobblestones", "a cobbled street"), _grained("cracks", _colour(0.5, 0.48, 0.46), 0.2, (1.0, 2.0))
    ),
    "sand": Background(("sand", "a sandy beach"), _grained("fine", _colour(0.85, 0.72, 0.5), 0.1)),
    "soil": Background(("brown soil", "bare earth", "mud"), _grained("pink", _colour(0.4, 0.28, 0.18), 0.22)),
    "snow": Background(("snow", "white snow"), _grained("cloud", _colour(0.93, 0.95, 1.0), 0.05)),
    "concrete": Background(("concrete", "a cement floor"), _grained("pink", _colour(0.62, 0.61, 0.59), 0.07)),
    "asphalt": Background(("asphalt", "a tarred road"), _grained("white", _colour(0.27, 0.27, 0.29), 0.18)),
    "carpet": Background(
        ("a carpet", "a woven rug"), _grained("weave", _colour(0.5, 0.3, 0.32), 0.16, (1.0, 1.8))
    ),
    "cloth": Background(
        ("a tablecloth", "a linen cloth"), _grained("weave", _colour(0.82, 0.8, 0.74), 0.08, (0.8, 1.2))
    ),
    "steel": Background(
        ("a steel plate", "brushed steel", "a metal sheet"), _grained("fibre", _colour(0.66, 0.68, 0.7), 0.1)
    ),
    "sheet": Background(
        ("a crumpled sheet", "wrinkled paper"),
        _grained("crumple", _colour(0.92, 0.9, 0.86), 0.09, (1.2, 2.2)),
    ),
    "rock": Background(
        ("rock", "a rocky cliff"), _grained("crumple", _colour(0.5, 0.45, 0.4), 0.22, (0.7, 1.2), "fine")
    ),
    "sky": Background(("a cloudy sky", "blue sky with clouds"), _sky),
    "sea": Background(("the sea", "rippled water", "waves"), _sea),
    "leaves": Background(("fallen leaves", "foliage", "a bush"), _leaves),
    "pebbles": Background(("grey overlapping discs", "a heap of coins"), _dead_leaves),
    "clutter": Background(("a cluttered background", "a heap of coloured things", "a messy pile"), _clutter),
}
