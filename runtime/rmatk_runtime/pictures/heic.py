"""HEIC, as phones write it: by pillow-heif, the extra ``heic``, and named where that is absent."""

from __future__ import annotations

import io

from PIL import Image

from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.modes import to_rgb


def read_heic(data: bytes, name: str, most_pixels: int) -> Image.Image:
    """The primary picture, whole and upright, as 8-bit RGB; alpha on white.

    Raises:
        DataError: the extra is not installed, or more than ``most_pixels``.
    """
    try:
        import pillow_heif
    except ImportError:
        raise DataError(
            f"{name} is a HEIC picture, which needs pillow-heif: pip install 'rmatk[heic]'",
            "pip install 'rmatk[heic]', or save it as JPEG",
        ) from None
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True, bgr_mode=False)
    picture = file[file.primary_index]
    width, height = picture.size
    if width * height > most_pixels:
        raise DataError(
            f"{name} has more than {most_pixels // 1_000_000} million pixels ({width}x{height})",
            "save it smaller",
        )
    # Not to_pillow(), which reads the metadata as well
    mode, pixels = picture.mode, bytes(picture.data)
    return to_rgb(Image.frombytes(mode, picture.size, pixels, "raw", mode, picture.stride))
