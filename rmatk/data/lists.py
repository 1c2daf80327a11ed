"""Data sets defined by JSON or text files: split JSON, FiftyOne's labels.json, FGVC-Aircraft's lists."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from rmatk.data.benchmarks import AIRCRAFT, of_split_file
from rmatk.data.class_names import class_name
from rmatk.data.parts import Part, fallbacks, part_of
from rmatk.data.paths import Photos
from rmatk.data.photos import Dataset
from rmatk_runtime.errors import DataError
from rmatk_runtime.text_files import read_text

LAYOUT_HINT = "put photos and split file where CoOp's DATASETS.md wants them (see docs/REPRODUCE.md)"
_SPLIT_HINT = 'expected {"train": [[path, label, class name], ...], "val": [...], "test": [...]}'

Photo = tuple[str, int, str]


def read_split(path: Path, part: Part) -> Dataset:
    """One part of CoOp's split JSON, or a set of FiftyOne's ``labels.json``, classes in the order of labels.

    Photos are looked for where CoOp puts those of a known data set, otherwise beside the file. The classes
    are those of all parts together, so that every part has the same.

    Raises:
        DataError: not such a file, a label with two names, no photos where they should be.
    """
    parts = _parts(path)
    names: dict[int, str] = {}
    for photo, label, name in (row for rows in parts.values() for row in rows):
        if names.setdefault(label, name) != name:
            raise DataError(f"{path}: label {label} is {names[label]!r}, but {name!r} for {photo}")
    known = of_split_file(path.name)
    folder = path.parent / known.photos if known else path.parent
    wanted = next((p for p in fallbacks(part) if parts.get(p)), part)
    chosen = ((photo, label) for photo, label, _ in parts.get(wanted, parts.get("all", [])))
    return _by_label(folder, names, chosen, known.template if known else None, path)


def _parts(path: Path) -> dict[str, list[Photo]]:
    """The rows (path, label, class name) of every part; of a file without parts under ``all``."""
    try:
        loaded = msgspec.json.decode(read_text(path).encode())
        if isinstance(loaded, dict) and "labels" in loaded:
            return {"all": _fiftyone(loaded)}
        if not isinstance(loaded, dict):
            raise ValueError(f"expected an object of parts, found {type(loaded).__name__}")
        parts: dict[str, list[Photo]] = {}
        for key, rows in loaded.items():
            if (part := part_of(key)) is None:
                if isinstance(rows, list) and rows:
                    raise ValueError(f"the part {key!r} is not known")
                continue
            if part in parts:
                raise ValueError(f"two keys name the part {part}, one of them {key!r}")
            parts[part] = [msgspec.convert(row, Photo) for row in rows]
        if not parts:
            raise ValueError("no key names a part")
        return parts
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a split file: {error}", _SPLIT_HINT) from error


def _fiftyone(loaded: dict[str, Any]) -> list[Photo]:
    """FiftyOne's export: photos in ``data/``, labels by their stems, numbers where ``classes`` is given."""
    classes, labels = loaded.get("classes"), loaded["labels"]
    if not isinstance(labels, dict):
        raise ValueError("expected an object under 'labels'")
    plain = {stem: own["label"] if isinstance(own, dict) else own for stem, own in labels.items()}
    known = {stem: own for stem, own in plain.items() if own is not None}
    if classes and all(isinstance(own, int) for own in known.values()):
        return [(stem, own, str(classes[own])) for stem, own in known.items() if 0 <= own < len(classes)]
    order = sorted({str(own) for own in known.values()})
    return [(stem, order.index(str(own)), str(own)) for stem, own in known.items()]


def read_aircraft(folder: Path, part: Part) -> Dataset:
    """One part (train, val or test) of FGVC-Aircraft's variants, from the text files that it comes with.

    Raises:
        DataError: a list is missing, a line names no variant, no photos where they should be.
    """
    try:
        variants = read_text(folder / AIRCRAFT.split).splitlines()
        lines = read_text(folder / f"images_variant_{part}.txt").splitlines()
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
        raise DataError(f"{source} lists photos in {folder}, but there is no such folder", LAYOUT_HINT)
    files: dict[int, list[Path]] = {label: [] for label in sorted(names)}
    places = Photos(
        source, [folder, *(folder / name for name in ("data", "images") if (folder / name).is_dir())]
    )
    for number, (photo, label) in enumerate(photos, 1):
        files[label].append(places.find(photo, f"photo {number}"))
    if not any(files.values()):
        raise DataError(f"{source} lists no photos for this part", LAYOUT_HINT)
    class_names = tuple(class_name(names[label]) for label in files)
    return Dataset(folder, class_names, tuple(tuple(listed) for listed in files.values()), template)
