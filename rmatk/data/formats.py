"""Opens labelled photos in any supported form.

photos/<class>/*.jpg                    a folder per class
photos/{train,val,test}/<class>/*.jpg   the same in parts; or train.csv, test.csv
photos.csv                              lines of path,label (and split)
split_zhou_*.json, labels.json          CoOp's split files, FiftyOne's export, or the folder that holds one
fgvc_aircraft/                          FGVC-Aircraft with its own lists
imagenet/, imagenet-sketch/ ...         folders by WordNet id with classnames.txt
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rmatk.config import TrainConfig
from rmatk.data.benchmarks import AIRCRAFT
from rmatk.data.class_names import check_twins, renamed
from rmatk.data.imagenet import TABLE, looks_like_imagenet, read_imagenet
from rmatk.data.layout import locate, part_folders
from rmatk.data.lists import read_aircraft, read_split
from rmatk.data.parts import Part, fallbacks, part_of
from rmatk.data.photos import LAYOUT_HINT, Dataset, read_folder
from rmatk.data.tables import TABLE_SUFFIXES, read_table
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.files import is_image
from rmatk_runtime.pictures.walk import PassedOver, is_leftover, subfolders

__all__ = ["Part", "Splits", "open_dataset", "open_splits", "prompts"]


@dataclass(frozen=True)
class Splits:
    """A data set to learn from and one to be measured on, with the same classes in the same order."""

    name: str
    train: Dataset
    test: Dataset


def open_dataset(source: str | Path, part: Part, names: Mapping[str, str] | None = None) -> Dataset:
    """The labelled photos of one part of ``source``; a source without parts is taken whole.

    Where there is no ``test`` folder but a ``val`` folder, as in ImageNet, that is the test part.

    Args:
        source: a folder, a table of photos, or a split file.
        part: which part of it.
        names: a name for each code that folders or labels are called by; see
            :func:`rmatk.data.class_names.renamed`.

    Raises:
        DataError: nothing there, or nothing that can be read; see the readers.
    """
    path, passed = Path(source), PassedOver()
    dataset = _open(path, part, passed, coded=bool(names))
    dataset = replace(dataset, notes=(*dict.fromkeys((*dataset.notes, *passed.notes())),))
    if not names:
        return dataset
    given = renamed(dataset.class_names, names, path)
    if len(set(given)) < len(set(dataset.class_names)):
        check_twins([name for name in given if given.count(name) > 1], path)
    return replace(dataset, class_names=given)


def open_splits(source: str | Path, names: Mapping[str, str] | None = None) -> Splits:
    """The training and test parts of ``source``, the test photos under the training part's classes.

    Raises:
        DataError: as :func:`open_dataset`; parts that share photos; classes of the test part that are not
            in the training part.
    """
    train, test = open_dataset(source, "train", names), open_dataset(source, "test", names)
    if set(train.flat()[0]) & set(test.flat()[0]):
        raise DataError(
            f"{source} has no parts to train and to test on: the same photos are in both",
            "put them into train/ and test/ below it, or into train.csv and test.csv",
        )
    path = Path(source)
    name = path.parent.name if path.suffix.lower() == ".json" else path.stem
    return Splits(name or path.resolve().name, train, test.under(train.class_names))


def prompts(dataset: Dataset, config: TrainConfig) -> tuple[str, ...]:
    """The templates to use: those that were asked for; if none were, a benchmark's own or the default one."""
    if dataset.template is None or config.templates != TrainConfig().templates:
        return config.templates
    return (dataset.template,)


def _open(path: Path, part: Part, passed: PassedOver, *, coded: bool = False) -> Dataset:
    """A file that lists photos, or a folder."""
    if path.is_file():
        if path.suffix.lower() == ".json":
            return read_split(path, part)
        if path.suffix.lower() in TABLE_SUFFIXES:
            return read_table(path, part)
        raise DataError(f"expected a folder, a .csv or a split .json, found {path}", LAYOUT_HINT)
    if not path.is_dir():
        raise DataError(f"expected labelled photos, found nothing at {path}", LAYOUT_HINT)
    return _open_folder(path, part, passed, coded=coded)


def _open_folder(path: Path, part: Part, passed: PassedOver, *, coded: bool) -> Dataset:
    """A folder of photos, of parts, or of a benchmark; ``coded``: its folders' names are looked up later."""
    if (path / AIRCRAFT.split).is_file():
        return read_aircraft(path, part)
    if listed := sorted(path.glob("split_zhou_*.json")) or sorted(path.glob("labels.json")):
        return read_split(listed[0], part)
    if (table := _table(path, part)) is not None:
        return read_table(table, part, [child for child in subfolders(path, PassedOver())])
    if (path / TABLE).is_file() and len(inside := subfolders(path, passed)) == 1:
        return _open_folder(inside[0], part, passed, coded=coded)
    place = locate(path, part, passed)
    if place.folder != path:
        dataset = _open_folder(place.folder, part, passed, coded=coded)
        return replace(dataset, notes=(*place.notes, *dataset.notes))
    if place.within is not None:
        return read_folder(path, passed, lambda folder: part_folders(folder, place.within or part, passed))
    return (
        read_imagenet(path, passed)
        if not coded and looks_like_imagenet(path, passed)
        else read_folder(path, passed)
    )


def _table(path: Path, part: Part) -> Path | None:
    """The table of a part that a folder holds; or its only one, where its photos are in no class folders.

    Raises:
        DataError: several tables for one part.
    """
    tables = [
        child
        for child in sorted(path.iterdir())
        if child.suffix.lower() in TABLE_SUFFIXES and child.is_file() and not is_leftover(child.name)
    ]
    of = {table: part_of(table.stem, file=True) for table in tables}
    for wanted in fallbacks(part):
        own = [table for table, found in of.items() if found == wanted]
        if len(own) > 1:
            raise DataError(
                f"several tables of {path} name the part {wanted}: {', '.join(t.name for t in own)}",
                "give one of them as DATA",
            )
        if own:
            return own[0]
    loose = any(is_image(child) for child in path.iterdir())
    if loose and len(tables) == 1 and not any(of.values()):
        return tables[0]
    return None
