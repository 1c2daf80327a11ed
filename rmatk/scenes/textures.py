"""A bank of grey texture tiles from which materials and backgrounds take their grain.

Noise worth looking at (1/f spectra, wood grain, crumpled facets, cells) costs tens of milliseconds to make
and well under one to sample. So each process makes a fixed, seeded set of periodic 256-pixel tiles once, on
first use, and a scene samples them at a random place, angle and scale.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Grey = NDArray[np.floating[Any]]

SIDE = 256
VARIANTS = 4
TILES = (
    "white",
    "fine",
    "pink",
    "cloud",
    "smooth",
    "grain",
    "fibre",
    "weave",
    "crumple",
    "cells",
    "cracks",
    "leaves",
    "blades",
)


def _rng(name: str, variant: int) -> np.random.Generator:
    digest = hashlib.sha256(f"tile:{name}:{variant}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _normal(a: Grey) -> Grey:
    """Zero mean, unit spread, tails cut at 3."""
    a = (a - a.mean()) / (a.std() + 1e-9)
    return np.clip(a, -3, 3).astype(np.float32)


def _spectrum(rng: np.random.Generator, beta: float, stretch: float = 1.0) -> Grey:
    """Periodic noise whose amplitude falls as 1/f**beta; ``stretch`` > 1 draws it out along x."""
    fx = np.fft.fftfreq(SIDE)[None, :] * SIDE * stretch
    fy = np.fft.fftfreq(SIDE)[:, None] * SIDE
    f = np.sqrt(fx * fx + fy * fy)
    f[0, 0] = 1.0
    noise = np.fft.fft2(rng.standard_normal((SIDE, SIDE))) / f**beta
    return _normal(np.fft.ifft2(noise).real)


def _nearest(
    rng: np.random.Generator, n: int
) -> tuple[Grey, Grey, NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Distances to the nearest and second nearest of ``n`` periodic seeds, the nearest's index, and the
    offsets to it.
    """
    seeds = rng.uniform(0, SIDE, (n, 2)).astype(np.float32)
    axis = np.arange(SIDE, dtype=np.float32)
    dx = (axis[None, :] - seeds[:, :1] + SIDE / 2) % SIDE - SIDE / 2
    dy = (axis[None, :] - seeds[:, 1:] + SIDE / 2) % SIDE - SIDE / 2
    d = dy[:, :, None] ** 2 + dx[:, None, :] ** 2
    index = d.argmin(axis=0)
    two = np.sqrt(np.partition(d, 1, axis=0)[:2])
    ox = np.take_along_axis(np.broadcast_to(dx[:, None, :], d.shape), index[None], 0)[0]
    oy = np.take_along_axis(np.broadcast_to(dy[:, :, None], d.shape), index[None], 0)[0]
    return two[0], two[1], index, ox, oy


def _facets(rng: np.random.Generator) -> Grey:
    """Crumpled sheet: planes of random slope meeting in creases, at two sizes."""
    total = np.zeros((SIDE, SIDE), dtype=np.float32)
    for n, weight in ((30, 1.0), (110, 0.6)):
        _, _, index, ox, oy = _nearest(rng, n)
        slope = rng.standard_normal((n, 2)).astype(np.float32)
        total += weight * (
            rng.standard_normal(n)[index] * 0.8
            + (slope[index, 0] * ox + slope[index, 1] * oy) * 0.08 * (n / 30) ** 0.5
        )
    return _normal(total + 0.2 * _spectrum(rng, 1.0))


def _weave(rng: np.random.Generator) -> Grey:
    axis = np.arange(SIDE)
    n = int(rng.choice([52, 64, 86]))
    wave = np.sin(2 * np.pi * axis * n / SIDE)
    over = np.sin(np.pi * axis * n / SIDE)
    cloth = wave[None, :] * (over[:, None] > 0) + wave[:, None] * (over[:, None] <= 0)
    return _normal(cloth + 0.5 * rng.standard_normal((SIDE, SIDE)) + 0.4 * _spectrum(rng, 1.2))


def _dead_leaves(rng: np.random.Generator) -> Grey:
    """Overlapping discs with power-law radii: the usual model of natural clutter."""
    image = Image.new("F", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for _ in range(1500):
        r = 3 / max(rng.uniform(0.03, 1.0), 0.05)
        x, y, v = rng.uniform(0, SIDE), rng.uniform(0, SIDE), float(rng.standard_normal())
        for sx in (-SIDE, 0, SIDE):
            for sy in (-SIDE, 0, SIDE):
                if -r < x + sx < SIDE + r and -r < y + sy < SIDE + r:
                    draw.ellipse((x + sx - r, y + sy - r, x + sx + r, y + sy + r), fill=v)
    return _normal(np.asarray(image))


def _blades(rng: np.random.Generator) -> Grey:
    """Short, mostly upright strokes: grass, straw, fur."""
    image = Image.new("F", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for _ in range(5000):
        x, y, lean, length = rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.normal(0, 5), rng.uniform(8, 26)
        v = float(rng.standard_normal())
        for sx in (-SIDE, 0, SIDE):
            for sy in (-SIDE, 0, SIDE):
                draw.line(
                    (x + sx, y + sy, x + sx + lean, y + sy + length), fill=v, width=int(rng.integers(1, 4))
                )
    return _normal(np.asarray(image))


@cache
def tile(name: str, variant: int) -> Image.Image:
    """Tile ``name`` as a Pillow image of mode F, 2 * SIDE square (two periods), zero mean and unit spread."""
    rng = _rng(name, variant)
    if name == "white":
        a = _normal(rng.standard_normal((SIDE, SIDE)))
    elif name == "grain":
        warp = _spectrum(rng, 2.0, 6.0)
        a = _normal(np.sin(warp * 9 + 0.6 * _spectrum(rng, 1.0, 8.0)) + 0.8 * _spectrum(rng, 0.7, 14.0))
    elif name == "fibre":
        a = _spectrum(rng, 0.6, 30.0)
    elif name == "weave":
        a = _weave(rng)
    elif name == "crumple":
        a = _facets(rng)
    elif name == "cells":
        near, _, index, ox, oy = _nearest(rng, int(rng.integers(120, 260)))
        a = _normal(rng.standard_normal(index.max() + 1)[index] - near * 0.12 + (ox + oy) * 0.06)
    elif name == "cracks":
        near, second, _, _, _ = _nearest(rng, int(rng.integers(90, 200)))
        a = _normal(np.minimum(second - near, 6.0) + 0.6 * _spectrum(rng, 1.0))
    elif name == "leaves":
        a = _dead_leaves(rng)
    elif name == "blades":
        a = _blades(rng)
    else:
        a = _spectrum(rng, {"fine": 0.5, "pink": 1.0, "cloud": 1.6, "smooth": 2.2}[name])
    return Image.fromarray(np.tile(a, (2, 2)))


def sample(
    name: str, rng: np.random.Generator, size: int, scale: float = 1.0, angle: float | None = None
) -> Grey:
    """A random (size, size) float32 view of a tile, about zero mean and unit spread; ``scale`` > 1
    magnifies.
    """
    if angle is None:
        angle = float(rng.uniform(0, 2 * np.pi))
    # the view's diagonal has to fit into one period, so that the view lies inside the doubled tile
    step = min(1.0 / scale, SIDE / (size * 1.42))
    c, s = float(np.cos(angle)) * step, float(np.sin(angle)) * step
    half = size / 2
    x, y = rng.uniform(SIDE / 2, SIDE * 1.5, 2)
    data = (c, s, float(x) - (c + s) * half, -s, c, float(y) - (c - s) * half)
    view = tile(name, int(rng.integers(VARIANTS))).transform(
        (size, size), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )
    return np.asarray(view, dtype=np.float32)
