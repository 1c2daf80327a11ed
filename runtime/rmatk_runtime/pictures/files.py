"""Picture files: which names are read, and folders listed in natural order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from rmatk_runtime.errors import SourceError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
)


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """All images below ``folder``, hidden ones left out, in natural order of their relative paths.

    Raises:
        SourceError: there is none.
    """
    found = [path for path in visible_files(folder) if is_image(path)]
    if not found:
        raise SourceError(
            f"no image in {folder}", f"files must end in one of {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return sorted(found, key=lambda path: natural_key(str(path.relative_to(folder))))


def visible_files(folder: Path) -> Iterator[Path]:
    """All files below ``folder``, hidden ones and those in hidden folders left out."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))


def natural_key(text: str) -> list[tuple[int, str]]:
    """A sort key under which ``shot9`` comes before ``shot10``."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), part) if number % 2 else (-1, part.casefold()) for number, part in enumerate(parts)]
