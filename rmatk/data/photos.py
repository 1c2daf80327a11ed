"""A folder of photos, one subfolder per class -> a dataset, and its photos in batches.

All decoding goes through the one preprocessing of ``rmatk_runtime``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from rmatk.data.class_names import class_name
from rmatk.data.parts import part_of
from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.files import path_text
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.pictures.files import (
    IMAGE_SUFFIXES,
    is_image,
    list_images,
    natural_key,
    needs_heic,
    visible_files,
)
from rmatk_runtime.pictures.preprocess import PreprocessSpec, normalise, resize
from rmatk_runtime.pictures.walk import PassedOver, is_leftover, subfolders

LAYOUT_HINT = "put the photos of each class into a subfolder named after it: DATA/<class name>/*.jpg"
_LISTED = 20
_UNLABELLED = re.compile(r"_?un[-_ ]?label+ed", re.IGNORECASE)  # FiftyOne's _unlabeled
_WITH_HEIC = " (pip install 'rmatk[heic]' to read them)"


@dataclass(frozen=True)
class Dataset:
    """Photos by class: ``files[c]`` are those of ``class_names[c]``.

    ``template``: the prompt that goes with a known benchmark; None for photos of one's own. ``notes``:
    files beside the photos that are not read.
    """

    root: Path
    class_names: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    template: str | None = None
    notes: tuple[str, ...] = ()

    def flat(self) -> tuple[list[Path], list[int]]:
        """Every file and its class index, class by class."""
        pairs = [(file, label) for label, files in enumerate(self.files) for file in files]
        return [file for file, _ in pairs], [label for _, label in pairs]

    def relative(self) -> list[str]:
        """Every file relative to ``root``, with forward slashes, class by class; one elsewhere as it is."""
        return [
            path_text((file.relative_to(self.root) if file.is_relative_to(self.root) else file).as_posix())
            for file in self.flat()[0]
        ]

    def select(self, classes: Sequence[int]) -> Dataset:
        """The photos of some classes only, in the order given."""
        return replace(
            self,
            class_names=tuple(self.class_names[c] for c in classes),
            files=tuple(self.files[c] for c in classes),
        )

    def under(self, class_names: tuple[str, ...]) -> Dataset:
        """The same photos under these class names and their order; a class may have none.

        Raises:
            DataError: a class that is not among the names.
        """
        if self.class_names == class_names:
            return self
        if unknown := [name for name in self.class_names if name not in class_names]:
            raise DataError(
                f"{self.root} has classes that are not known: {', '.join(unknown)}; "
                f"known are: {', '.join(class_names)}",
                "rename these folders, or train on a folder that has them",
            )
        files: list[tuple[Path, ...]] = [()] * len(class_names)
        for name, own in zip(self.class_names, self.files, strict=True):
            files[class_names.index(name)] += own
        return replace(self, class_names=class_names, files=tuple(files))


def read_folder(
    root: Path,
    passed: PassedOver | None = None,
    of_class: Callable[[Path], list[Path]] = lambda folder: [folder],
) -> Dataset:
    """Read the layout ``root/<class folder>/**/<image>``; underscores in folder names become spaces.

    Args:
        root: the folder of the class folders.
        passed: counts what is not read.
        of_class: the folders inside a class folder that are read.

    Raises:
        DataError: no such folder, no class folders, a class without images, two folders with one name or
            that are one folder.
    """
    passed = passed or PassedOver()
    if not root.is_dir():
        raise DataError(f"expected a folder of photos, found nothing at {root}", LAYOUT_HINT)
    folders = sorted(subfolders(root, passed), key=lambda folder: natural_key(folder.name))
    unlabelled = [folder for folder in folders if _UNLABELLED.fullmatch(folder.name)]
    folders = [folder for folder in folders if folder not in unlabelled]
    loose = sum(is_image(file) and not is_leftover(file.name) for file in root.iterdir())
    if not folders:
        raise DataError(
            f"expected one subfolder per class, found none in {root}"
            + (f", but {loose} images that are in no class" if loose else ""),
            LAYOUT_HINT,
        )
    _check_distinct(root, folders)
    chosen = [of_class(folder) for folder in folders]
    files = tuple(tuple(file for own in part for file in photos_below(own, passed)) for part in chosen)
    others = ", ".join(f"{count} {kind}" for kind, count in sorted(_others_below(chain(*chosen)).items()))
    if empty := [folder.name for folder, images in zip(folders, files, strict=True) if not images]:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(
            f"expected images ({kinds}), found none in {root} for: {', '.join(empty)}"
            + (f"; found: {others}" if others else ""),
            "save them as JPEG or PNG" if others else "add photos to these folders, or remove them",
        )
    names = tuple(class_name(path_text(folder.name)) for folder in folders)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"several folders of {root} give the class {', '.join(twice)}", "rename or merge them"
        )
    notes = [f"not read, since they are no images by their names: {others}"] if others else []
    if loose:
        notes.append(f"not read, in no class folder: {loose} images directly in {root}")
    if unlabelled:
        notes.append(f"not read, since their photos have no class: {', '.join(f.name for f in unlabelled)}")
    if lists := sorted(file.name for file in root.glob("*.txt") if part_of(file.stem, file=True)):
        notes.append(
            f"not read, lists of parts as text: {', '.join(lists)}; a CSV of path,label,split is read"
        )
    return Dataset(root, names, files, notes=tuple(notes))


def _check_distinct(root: Path, folders: Sequence[Path]) -> None:
    """Refuse two class folders that are one by a link, and a class folder that is a folder above."""
    above = {folder.resolve() for folder in (root, *root.resolve().parents)}
    places: dict[Path, Path] = {}
    for folder in folders:
        place = folder.resolve()
        if place in above:
            raise DataError(f"{folder} is a link to {place}, a folder above it", "remove the link")
        if place in places:
            raise DataError(
                f"{places[place].name} and {folder.name} of {root} are one folder by a link",
                "remove one of them",
            )
        places[place] = folder


def image_batches(
    files: Sequence[Path],
    spec: PreprocessSpec,
    batch: int,
    *,
    max_bad: float = 0.0,
    on_bad: Callable[[int, str], None] = lambda index, message: None,
) -> Iterator[Float32]:
    """As :func:`pixel_batches`, as arrays (n, 3, H, W) float32 normalised."""
    for pixels in pixel_batches(files, spec, batch, max_bad=max_bad, on_bad=on_bad):
        yield normalise(pixels, spec)


def pixel_batches(
    files: Sequence[Path],
    spec: PreprocessSpec,
    batch: int,
    *,
    max_bad: float = 0.0,
    on_bad: Callable[[int, str], None] = lambda index, message: None,
) -> Iterator[UInt8]:
    """Decode and resize files in order, as arrays (n, H, W, 3) uint8 RGB, n <= ``batch``.

    Up to the share ``max_bad`` of files may be unreadable: they are left out of the arrays, and ``on_bad``
    hears the index of each and what is wrong with it, before the array that would have held it.

    Raises:
        DataError: after the last file, when more than that share could not be read, naming them.
    """
    ready: list[UInt8] = []
    bad: list[str] = []
    tolerated = int(max_bad * len(files))
    for index, file in enumerate(files):
        try:
            ready.append(resize(load_image(file, Decoding(spec.stretch)), spec))
        except DataError as error:
            bad.append(error.message)
            on_bad(index, error.message)
        if len(ready) == batch:
            if len(bad) <= tolerated:  # past that nothing is worth computing: only read on
                yield np.stack(ready)
            ready = []
    if len(bad) > tolerated:
        raise unreadable(bad, len(files))
    if ready:
        yield np.stack(ready)


def unreadable(messages: Sequence[str], of: int) -> DataError:
    """One error for all unreadable photos."""
    more = f"\n  and {len(messages) - _LISTED} more" if len(messages) > _LISTED else ""
    listed = "\n  ".join(messages[:_LISTED])
    return DataError(
        f"{len(messages)} of {of} images cannot be used:\n  {listed}{more}",
        "replace or remove these files, or let some be left out with --max-bad",
    )


def photos_below(folder: Path, passed: PassedOver | None = None) -> tuple[Path, ...]:
    """Image files below a class folder, as the runtime lists them; an empty folder gives none."""
    try:
        return tuple(path for path in list_images(folder, passed) if not needs_heic(path))
    except SourceError:
        return ()


def _others_below(folders: Iterable[Path]) -> Counter[str]:
    """How many files of each ending are not read: raw files of cameras, HEIC without its extra."""
    return Counter(
        (path.suffix.lower() or path.name) + (_WITH_HEIC if needs_heic(path) else "")
        for folder in folders
        for path in visible_files(folder)
        if not is_image(path) or needs_heic(path)
    )
