"""Colour names and the ranges of RGB they stand for."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.float32]

# name -> (hue, its spread, saturation from, to, value from, to); hue in turns
_RANGES: dict[str, tuple[float, float, float, float, float, float]] = {
    "red": (0.995, 0.015, 0.75, 1.0, 0.6, 0.95),
    "orange": (0.075, 0.014, 0.8, 1.0, 0.85, 1.0),
    "yellow": (0.148, 0.014, 0.7, 1.0, 0.85, 1.0),
    "green": (0.345, 0.045, 0.55, 0.95, 0.35, 0.75),
    "turquoise": (0.49, 0.02, 0.55, 0.9, 0.65, 0.9),
    "blue": (0.615, 0.03, 0.65, 1.0, 0.45, 0.9),
    "purple": (0.77, 0.025, 0.5, 0.85, 0.4, 0.75),
    "pink": (0.92, 0.025, 0.3, 0.6, 0.9, 1.0),
    "brown": (0.068, 0.02, 0.4, 0.8, 0.3, 0.7),
    "white": (0.1, 0.1, 0.0, 0.06, 0.9, 1.0),
    "grey": (0.6, 0.1, 0.0, 0.08, 0.42, 0.65),
    "black": (0.6, 0.1, 0.0, 0.15, 0.04, 0.15),
}

COLOURS: tuple[str, ...] = tuple(_RANGES)


def rgb(name: str, rng: np.random.Generator) -> Rgb:
    """One (3,) float32 colour in 0..1 that goes by ``name``."""
    hue, spread, s0, s1, v0, v1 = _RANGES[name]
    value = colorsys.hsv_to_rgb(
        (hue + rng.uniform(-spread, spread)) % 1.0, rng.uniform(s0, s1), rng.uniform(v0, v1)
    )
    return np.array(value, dtype=np.float32)
