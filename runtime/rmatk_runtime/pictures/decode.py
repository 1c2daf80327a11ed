"""The one decoder: a file, or bytes from standard input or a request -> an upright RGB picture.

Only the kinds in :mod:`rmatk_runtime.pictures.kinds` are opened, by their content. Metadata is taken off
first (:mod:`rmatk_runtime.pictures.metadata`). Of several pictures in a file the first, or primary, is read.
"""

from __future__ import annotations

import io
import logging
import stat
import warnings
from pathlib import Path
from typing import BinaryIO

import msgspec
from PIL import Image, TiffImagePlugin, features

from rmatk_runtime.errors import DataError
from rmatk_runtime.files import path_text
from rmatk_runtime.pictures.heic import read_heic
from rmatk_runtime.pictures.jpeg_scan import damage
from rmatk_runtime.pictures.kinds import HEAD, describe, kind_of
from rmatk_runtime.pictures.metadata import bare_avif, bare_jpeg, bare_png, orientation
from rmatk_runtime.pictures.modes import NARROW, Stretch, is_wide, to_rgb, used_levels

log = logging.getLogger(__name__)

MOST_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded; so are those above Pillow's own limit, if lower."""
MOST_BYTES = 256 << 20
"""Of a compressed file, which is read into memory."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Of too many pixels (MOST_PIXELS is held instead) and of metadata (which is ignored)
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Decoding(msgspec.Struct, frozen=True):
    """How pictures are decoded.

    ``stretch``: of 16-bit greyscale. ``draft``: (width, height) that is enough on both sides: JPEGs of more
    than twice that are decoded at a half, a quarter or an eighth of their size, which is far cheaper and not
    exact; None: in full. ``pixels``: larger pictures are refused.
    """

    stretch: Stretch = None
    draft: tuple[int, int] | None = None
    pixels: int = MOST_PIXELS


EXACT = Decoding()


def load_image(path: Path, decoding: Decoding = EXACT) -> Image.Image:
    """Decode an image file to RGB.

    EXIF orientation is applied; alpha is laid on white; 16-bit greyscale is scaled; of an animation or of
    several pictures the first is taken. Metadata that cannot be read is ignored.

    Raises:
        DataError: missing, unreadable, truncated, too large, or of a kind that is not read.
    """
    name = path_text(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise DataError(f"{name} is not a regular file")
        with path.open("rb") as file:
            return _decode(file, name, decoding)
    except FileNotFoundError:
        raise DataError(f"no such image: {name}") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from error


def decode_image(data: bytes, name: str, decoding: Decoding = EXACT) -> Image.Image:
    """As :func:`load_image`, from bytes; errors call the picture ``name``."""
    return _decode(io.BytesIO(data), name, decoding)


def _decode(file: BinaryIO, name: str, decoding: Decoding) -> Image.Image:
    head = file.read(HEAD)
    kind = kind_of(head)
    if kind is None:
        raise DataError(f"{name} {describe(head)}", "save it as JPEG or PNG")
    if kind == "AVIF" and not features.check("avif"):
        raise DataError(
            f"{name} is an AVIF picture, which needs Pillow 11.3 or newer", "pip install 'pillow>=11.3'"
        )
    file.seek(0)
    try:
        if kind == "HEIC":
            return read_heic(_bytes(file, name), name, decoding.pixels)
        return _with_pillow(file, kind, name, decoding)
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except Exception as error:  # whatever a decoder raises on a damaged file, the file is at fault
        raise DataError(f"{name} cannot be decoded: {error or type(error).__name__}") from error


def _with_pillow(file: BinaryIO, kind: str, name: str, decoding: Decoding) -> Image.Image:
    turned = 1
    if kind in ("JPEG", "PNG"):
        data, turned = (bare_jpeg if kind == "JPEG" else bare_png)(_bytes(file, name))
        if kind == "JPEG" and (wrong := damage(data)):
            raise DataError(f"{name} is damaged: {wrong}")
        file = io.BytesIO(data)
    elif kind == "AVIF":
        file = io.BytesIO(bare_avif(_bytes(file, name)))
    with Image.open(file, formats=(kind,)) as image:
        check_pixels(image.size, name, decoding.pixels)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            turned = _tiff_orientation(image)
        elif kind in ("WEBP", "AVIF"):
            turned = orientation(image.info.get("exif", b""), image.info.get("xmp", b""))
        if kind == "JPEG" and decoding.draft is not None:
            image.draft("RGB" if image.mode == "RGB" else image.mode, _drafted(decoding.draft, turned))
        image.load()
        if decoding.stretch is None and is_wide(image) and 1 < (levels := used_levels(image)) < NARROW:
            log.warning(
                "%s is 16-bit greyscale of which %d of 256 grey levels are left; "
                "train with --stretch auto, or --stretch LOW:HIGH",
                name,
                levels,
            )
        rgb = to_rgb(image, decoding.stretch)
    return rgb.transpose(_TURNS[turned]) if turned in _TURNS else rgb


def _drafted(size: tuple[int, int], turned: int) -> tuple[int, int]:
    """The size as the file stores it."""
    return size if turned < 5 else (size[1], size[0])


def _tiff_orientation(image: TiffImagePlugin.TiffImageFile) -> int:
    """The orientation, which Pillow then no longer applies by itself: it would read all other tags for it."""
    image.load_end = lambda: None  # type: ignore[method-assign]
    try:
        return int(image.tag_v2.get(0x0112, 1))
    except Exception:  # noqa: BLE001 - a tag of an odd type costs the orientation only
        return 1


def check_pixels(size: tuple[int, int], name: str, pixels: int = MOST_PIXELS) -> None:
    """Hold that a picture may be decoded.

    Raises:
        DataError: more than ``pixels``, or than Pillow's own limit.
    """
    most = min(pixels, Image.MAX_IMAGE_PIXELS or pixels)
    if size[0] * size[1] > most:
        raise _too_large(name, size, most)


def _too_large(name: str, size: tuple[int, int] | None = None, most: int = MOST_PIXELS) -> DataError:
    found = f" ({size[0]}x{size[1]})" if size else ""
    return DataError(f"{name} has more than {most // 1_000_000} million pixels{found}", "save it smaller")


def _bytes(file: BinaryIO, name: str) -> bytes:
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DataError(f"{name} is larger than {MOST_BYTES >> 20} MiB", "save it smaller")
    return data
