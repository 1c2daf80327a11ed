"""A picture as JPEG, for the page, snapshots and messages."""

from __future__ import annotations

import io

from PIL import Image

from rmatk_runtime.arrays import UInt8


def encode_jpeg(image: UInt8, *, quality: int, longest: int | None = None) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG, made smaller where a side exceeds ``longest``."""
    picture = Image.fromarray(image)
    if longest is not None and max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return data.getvalue()
