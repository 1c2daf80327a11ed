"""Picture files: which names are read, and folders listed in natural order."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from rmatk_runtime.errors import SourceError
from rmatk_runtime.pictures.walk import PassedOver, walk

HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
IMAGE_SUFFIXES = HEIC_SUFFIXES | frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"]
)


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def needs_heic(path: Path) -> bool:
    """Whether the name ends like a HEIC picture's and the extra that reads these is not installed."""
    return path.suffix.lower() in HEIC_SUFFIXES and importlib.util.find_spec("pillow_heif") is None


def list_images(folder: Path, passed: PassedOver | None = None) -> list[Path]:
    """All images below ``folder`` in natural order of their relative paths; ``passed`` counts what is not.

    Raises:
        SourceError: there is none.
    """
    found = [path for path in visible_files(folder, passed) if is_image(path)]
    if not found:
        raise SourceError(
            f"no image in {folder}", f"files must end in one of {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return sorted(found, key=lambda path: natural_key(str(path.relative_to(folder))))


def visible_files(folder: Path, passed: PassedOver | None = None) -> Iterator[Path]:
    """All files below ``folder`` but hidden ones and leftovers of systems: see :func:`walk`."""
    return walk(folder, PassedOver() if passed is None else passed)


def natural_key(text: str) -> list[tuple[int, str]]:
    """A sort key under which ``shot9`` comes before ``shot10``."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), part) if number % 2 else (-1, part.casefold()) for number, part in enumerate(parts)]
