"""Data sets defined by lists of files: CSV, CoOp's split JSON, FGVC-Aircraft's text files."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import msgspec

from rmatk.data.benchmarks import AIRCRAFT, of_split_file
from rmatk.data.photos import Dataset
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.files import IMAGE_SUFFIXES, natural_key

LAYOUT_HINT = "put photos and split file where CoOp's DATASETS.md wants them (see docs/REPRODUCE.md)"
_CSV_HINT = "one photo per line: path,label; paths are relative to the file"

Photo = tuple[str, int, str]


class SplitFile(msgspec.Struct, frozen=True):
    """CoOp's split JSON: (path, label, class name) of every photo of every part."""

    train: tuple[Photo, ...]
    val: tuple[Photo, ...]
    test: tuple[Photo, ...]


def read_csv(path: Path) -> Dataset:
    """Read ``path,label`` lines; a first line whose path is no image is taken as a header and skipped.

    Labels are class names (underscores become spaces), sorted as folders would be; paths are relative to
    the CSV's folder, or absolute.

    Raises:
        DataError: not a text file, no photos, a line without two fields.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}", _CSV_HINT) from error
    if lines and Path(lines[0][1][0].strip()).suffix.lower() not in IMAGE_SUFFIXES:
        lines = lines[1:]
    if not lines:
        raise DataError(f"expected lines of path,label in {path}, found none", _CSV_HINT)
    photos: dict[str, list[Path]] = {}
    for number, row in lines:
        fields = [field.strip() for field in row]
        if len(fields) != 2 or not all(fields):
            raise DataError(f"{path}, line {number}: expected path,label, found {','.join(row)!r}", _CSV_HINT)
        photos.setdefault(fields[1].replace("_", " "), []).append(path.parent / fields[0])
    names = sorted(photos, key=natural_key)
    return Dataset(path.parent, tuple(names), tuple(tuple(photos[name]) for name in names))


def read_split(path: Path, part: str) -> Dataset:
    """One part (train, val or test) of CoOp's split JSON, classes in the order of their labels.

    Photos are looked for where CoOp puts those of a known data set, otherwise beside the file. The classes
    are those of all parts together, so that every part has the same.

    Raises:
        DataError: not such a file, a label with two names, no photos where they should be.
    """
    try:
        split = msgspec.json.decode(path.read_bytes(), type=SplitFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a split file: {error}",
            'expected {"train": [[path, label, class name], ...], "val": [...], "test": [...]}',
        ) from error
    names: dict[int, str] = {}
    for photo, label, name in (*split.train, *split.val, *split.test):
        if names.setdefault(label, name) != name:
            raise DataError(f"{path}: label {label} is {names[label]!r}, but {name!r} for {photo}")
    known = of_split_file(path.name)
    folder = path.parent / known.photos if known else path.parent
    photos = ((photo, label) for photo, label, _ in getattr(split, part))
    return _by_label(folder, names, photos, known.template if known else None, path)


def read_aircraft(folder: Path, part: str) -> Dataset:
    """One part (train, val or test) of FGVC-Aircraft's variants, from the text files that it comes with.

    Raises:
        DataError: a list is missing, a line names no variant, no photos where they should be.
    """
    try:
        variants = (folder / AIRCRAFT.split).read_text(encoding="utf-8").splitlines()
        lines = (folder / f"images_variant_{part}.txt").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(
            f"expected the lists of {AIRCRAFT.name}, found no {error.filename}", LAYOUT_HINT
        ) from None
    names = {label: name.strip() for label, name in enumerate(variants) if name.strip()}
    labels = {name: label for label, name in names.items()}
    photos = []
    for line in lines:
        photo, _, variant = line.strip().partition(" ")
        if variant not in labels:
            raise DataError(f"images_variant_{part}.txt of {folder}: {variant!r} is not in {AIRCRAFT.split}")
        photos.append((f"{photo}.jpg", labels[variant]))
    return _by_label(folder / AIRCRAFT.photos, names, photos, AIRCRAFT.template, folder)


def _by_label(
    folder: Path, names: dict[int, str], photos: Iterable[tuple[str, int]], template: str | None, source: Path
) -> Dataset:
    """Group (path, label) pairs by label, in the order of the labels."""
    if not folder.is_dir():
        raise DataError(f"{source} tells of photos in {folder}, where nothing is", LAYOUT_HINT)
    files: dict[int, list[Path]] = {label: [] for label in sorted(names)}
    for photo, label in photos:
        files[label].append(folder / photo)
    if not any(files.values()):
        raise DataError(f"{source} lists no photos for this part", LAYOUT_HINT)
    class_names = tuple(names[label].replace("_", " ") for label in files)
    return Dataset(folder, class_names, tuple(tuple(listed) for listed in files.values()), template)
