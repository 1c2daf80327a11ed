"""ImageNet and its variants: class folders named by WordNet id (in -V2 by number), and a table of names.

-A and -R have folders for 200 of the 1000 classes only; their photos are classified among those, as CoOp
does. ``classnames.txt`` has a line ``n01440764 tench`` per class, in ImageNet's order; it is the user's,
and is beside the folders or up to two folders above.
"""

from __future__ import annotations

import re
from pathlib import Path

from rmatk.data.benchmarks import IMAGENET
from rmatk.data.photos import Dataset, photos_below
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.walk import PassedOver, subfolders
from rmatk_runtime.text_files import read_text

TABLE = IMAGENET.split
_WNID = re.compile(r"n\d{8}")
_HINT = (
    "give names with --class-names FILE, or "
    f"copy CoOp's {TABLE} (a line 'n01440764 tench' per class) beside the class folders"
)


def looks_like_imagenet(folder: Path, passed: PassedOver) -> bool:
    """Whether the class folders are named by WordNet id, or are numbers with a table of names to look up."""
    names = [child.name for child in subfolders(folder, passed)]
    if not names:
        return False
    by_id = all(_WNID.fullmatch(name) for name in names)
    return by_id or (all(name.isdecimal() for name in names) and _find_table(folder) is not None)


def read_imagenet(folder: Path, passed: PassedOver) -> Dataset:
    """Read the class folders, in the table's order.

    Several classes may have one name: they remain several (ImageNet has such).

    Raises:
        DataError: no table, a folder that the table does not know, a class without photos.
    """
    path = _find_table(folder)
    if path is None:
        raise DataError(f"the folders of {folder} are named by WordNet id, and there is no {TABLE}", _HINT)
    table = _read_table(path)
    place = {wnid: number for number, wnid in enumerate(table)}
    classes: list[tuple[int, str, Path]] = []
    for child in subfolders(folder, passed):
        wnid = (
            list(table)[int(child.name)]
            if child.name.isdecimal() and int(child.name) < len(table)
            else child.name
        )
        if wnid not in table:
            raise DataError(f"{child} is not a class of {path}", _HINT)
        classes.append((place[wnid], table[wnid], child))
    classes.sort()
    files = tuple(photos_below(child, passed) for _, _, child in classes)
    if empty := [str(child) for (_, _, child), found in zip(classes, files, strict=True) if not found]:
        raise DataError(
            f"expected images, found none in: {', '.join(empty)}", "remove these folders, or fill them"
        )
    return Dataset(folder, tuple(name for _, name, _ in classes), files, IMAGENET.template)


def _find_table(folder: Path) -> Path | None:
    places = (folder, *folder.resolve().parents[:2])
    return next((p / TABLE for p in places if (p / TABLE).is_file()), None)


def _read_table(path: Path) -> dict[str, str]:
    """WordNet id -> class name, in the file's order."""
    table = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        wnid, _, name = line.strip().partition(" ")
        if not wnid:
            continue
        if not _WNID.fullmatch(wnid) or not name.strip():
            raise DataError(f"{path}, line {number}: expected a WordNet id and a name, found {line!r}", _HINT)
        table[wnid] = name.strip()
    return table
