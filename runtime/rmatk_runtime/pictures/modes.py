"""Any Pillow mode -> RGB, the way a person would expect to see it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Stretch = Literal["auto"] | tuple[int, int] | None
"""How 16-bit greyscale becomes 8 bits: None: 0 to 65535; ``auto``: each picture's own 1st to 99th percentile;
(low, high): these levels become 0 and 255."""

_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
NARROW = 16
"""Levels of 256 below which greyscale of 16 bits is reported as a narrow band."""


def is_wide(image: Image.Image) -> bool:
    """Whether it is greyscale of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_rgb(image: Image.Image, stretch: Stretch = None) -> Image.Image:
    """Lay alpha on white and scale greyscale of more than 8 bits, which Pillow's ``convert`` would clip."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if is_wide(image):
        return Image.fromarray(_eight_bits(image, stretch)).convert("RGB")
    if image.mode in _ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def used_levels(image: Image.Image) -> int:
    """How many of 256 grey levels wide greyscale spans, from the darkest to the brightest pixel."""
    grey = _eight_bits(image, None)
    return int(grey.max()) - int(grey.min()) + 1 if grey.size else 0


def _eight_bits(image: Image.Image, stretch: Stretch) -> npt.NDArray[np.uint8]:
    """(H, W) uint8."""
    values = np.asarray(image, dtype=np.float64)
    low, high = _range(values, image, stretch)
    scaled = (values - low) * (255.0 / max(high - low, 1e-9))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _range(values: npt.NDArray[np.float64], image: Image.Image, stretch: Stretch) -> tuple[float, float]:
    """The values that become 0 and 255."""
    if image.mode != "F" and isinstance(stretch, tuple):
        return float(stretch[0]), float(stretch[1])
    if image.mode != "F" and stretch == "auto" and values.size:
        low, high = (float(np.percentile(values, q, method="nearest")) for q in (1, 99))
        return (low, high) if high > low else (0.0, 65535.0)
    if image.mode == "F":
        return 0.0, 1.0 if values.size and values.max() <= 1.0 else 255.0
    # PNG and PGM have 16 bits, which are "I" or "I;16" by Pillow's version; other integers may have 8
    sixteen = image.mode != "I" or image.format in ("PNG", "PPM")
    narrow = not sixteen and (not values.size or values.max() <= 255)
    return 0.0, 255.0 if narrow else 65535.0
