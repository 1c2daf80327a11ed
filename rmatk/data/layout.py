"""Where in a folder the class folders are: directly, in parts, in parts of each class, or a level down.

    photos/<class>/          photos/<part>/<class>/          photos/images/<part>/<class>/
    photos/<class>/<part>/   photos/images/<class>/

Folder names alone do not tell a part from a class (``train`` may be a vehicle): what is in them does.
Where that leaves two readings, the folder is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rmatk.data.parts import Part, fallbacks, part_of
from rmatk.data.photos import LAYOUT_HINT
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.files import is_image, natural_key
from rmatk_runtime.pictures.walk import PassedOver, is_leftover, subfolders, walk

_COMPANION = re.compile(r"_?un(label|sup|annotat|known|sorted).*|extra|predict.*|submission.*", re.IGNORECASE)
_WRAPPER = re.compile(r".*(data|datasets?|images?|imgs?|jpe?gs?|pngs?|photos?|pictures?|categories)", re.I)


@dataclass(frozen=True)
class Place:
    """The folder to read on in. ``within``: the part to take inside each class folder; None: all photos."""

    folder: Path
    within: Part | None = None
    notes: tuple[str, ...] = ()


def locate(folder: Path, part: Part, passed: PassedOver) -> Place:
    """One step towards the class folders of a part; ``folder`` itself where they are in it.

    Raises:
        DataError: two readings, no such part, photos that are in no class folder.
    """
    children = sorted(subfolders(folder, passed), key=lambda child: natural_key(child.name))
    full = [child for child in children if _holds_photos(child)]
    parts = {child: found for child in children if (found := part_of(child.name)) is not None}
    others = [child for child in full if child not in parts]
    if parts and _are_parts(folder, parts, others):
        return _in_parts(folder, parts, part, [child for child in children if child not in parts])
    if len(full) > 1 and all(map(_split_inside, full)):
        return Place(folder, within=part)
    if len(full) == 1 and not parts and _is_wrapper(folder, full[0]):
        rest = [child.name for child in children if child != full[0]]
        return Place(full[0], notes=_not_read(rest, f"beside {full[0].name}/"))
    return Place(folder)


def part_folders(folder: Path, part: Part, passed: PassedOver) -> list[Path]:
    """Of a class folder that is split inside, the folders of one part.

    Raises:
        DataError: there is none.
    """
    inside = [(child, part_of(child.name)) for child in subfolders(folder, passed)]
    for wanted in fallbacks(part):
        if own := [child for child, found in inside if found == wanted]:
            return own
    raise DataError(f"{folder} has no folder of the part {part}", LAYOUT_HINT)


def _are_parts(folder: Path, parts: dict[Path, Part], others: list[Path]) -> bool:
    """Whether folders named as parts are parts rather than classes of these names.

    Raises:
        DataError: it could be either.
    """
    holding = [child for child in parts if _has_classes(child)]
    beside = [child for child in others if not _COMPANION.fullmatch(child.name)]
    if not beside:
        if not holding:
            raise DataError(
                f"expected class folders in {_names(parts)} of {folder}, found none",
                "put the photos of each class into a folder of its own; if these are classes, rename them",
            )
        return True
    if len({parts[child] for child in holding}) > 1:
        return True
    if not holding and len(parts) == 1:
        return False  # a class among classes
    raise DataError(
        f"cannot tell whether {_names(parts)} of {folder} are parts of a data set or classes, beside "
        f"{_names(beside[:5])}",
        "give the folder of the class folders as DATA, or rename what is no class",
    )


def _in_parts(folder: Path, parts: dict[Path, Part], part: Part, rest: list[Path]) -> Place:
    """The folder of the part that is asked for, or of the one that stands in for it."""
    named = [*(child.name for child in rest)]
    for wanted in fallbacks(part):
        own = [child for child, found in parts.items() if found == wanted]
        if len(own) > 1:
            raise DataError(
                f"{_names(own)} of {folder} all name the part {wanted}", "merge them, or give one as DATA"
            )
        if not own:
            continue
        if not _has_classes(own[0]):
            if wanted != fallbacks(part)[-1]:
                named.append(f"{own[0].name} (no class folders)")
                continue
            raise DataError(f"expected class folders in {own[0]}, found none", LAYOUT_HINT)
        stands_in = (f"{folder} has no labelled {part} part: its {own[0].name} part is taken",)
        return Place(
            own[0], notes=(*_not_read(named, "beside the parts"), *(stands_in if wanted != part else ()))
        )
    raise DataError(
        f"expected a folder {' or '.join(fallbacks(part))} in {folder}, found {_names(parts)}", LAYOUT_HINT
    )


def _is_wrapper(folder: Path, child: Path) -> bool:
    """Whether the one folder with photos only holds the data set, as unpacked archives have it."""
    if _own_photos(child) or not _has_classes(child):
        return False
    inside = [found for grandchild in child.iterdir() if (found := part_of(grandchild.name))]
    same = child.name.casefold() == folder.resolve().name.casefold()
    return bool(inside) or same or _WRAPPER.fullmatch(child.name) is not None


def _has_classes(folder: Path) -> bool:
    """Whether there are folders with photos in it, or a list of the photos that it holds itself."""
    lists = any(child.suffix.lower() in (".csv", ".tsv") for child in folder.iterdir())
    return lists or any(map(_holds_photos, subfolders(folder, PassedOver())))


def _split_inside(folder: Path) -> bool:
    """Whether a class folder holds nothing but parts, each with photos directly in it."""
    inside = subfolders(folder, PassedOver())
    return (
        len({part_of(child.name) for child in inside}) > 1
        and all(part_of(child.name) and _own_photos(child) for child in inside)
        and not _own_photos(folder)
    )


def _holds_photos(folder: Path) -> bool:
    return any(map(is_image, walk(folder, PassedOver())))


def _own_photos(folder: Path) -> bool:
    return any(
        is_image(child) and not is_leftover(child.name) and child.is_file() for child in folder.iterdir()
    )


def _not_read(names: list[str], where: str) -> tuple[str, ...]:
    return (f"not read, {where}: {', '.join(names)}",) if names else ()


def _names(folders: Iterable[Path]) -> str:
    return ", ".join(folder.name for folder in folders)
