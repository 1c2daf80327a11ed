"""Random resized crops and mirror images, as CoOp's training transform draws them.

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022: crops of 8 to 100 % of the area with
an aspect ratio of 3/4 to 4/3, resized to the network's input, mirrored half the time. RMAdapter's paper does
without. Every draw comes from the generator given, so that a resumed run sees the same pictures.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageOps

from rmatk_runtime.pictures.preprocess import PreprocessSpec

LEAST_AREA = 0.08
_TRIES = 10


def augmented(image: Image.Image, spec: PreprocessSpec, rng: np.random.Generator) -> Image.Image:
    """An RGB image of any size -> a random crop of it at the network's size, mirrored half the time."""
    size = (spec.width, spec.height)
    picture = image.resize(size, Image.Resampling.BICUBIC, box=_box(image.size, rng))
    return ImageOps.mirror(picture) if rng.random() < 0.5 else picture


def _box(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels; the whole picture when no draw fits, as for very long ones."""
    width, height = size
    for _ in range(_TRIES):
        area = width * height * rng.uniform(LEAST_AREA, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height
