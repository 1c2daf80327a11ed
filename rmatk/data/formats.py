"""Opens labelled photos in any supported form.

photos/<class>/*.jpg                    a folder per class
photos/{train,val,test}/<class>/*.jpg   the same in parts; or train.csv, test.csv
photos.csv                              lines of path,label
split_zhou_*.json                       CoOp's split files, or the folder that holds one
fgvc_aircraft/                          FGVC-Aircraft with its own lists
imagenet/, imagenet-sketch/ ...         folders by WordNet id with classnames.txt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rmatk.config import TrainConfig
from rmatk.data.benchmarks import AIRCRAFT
from rmatk.data.imagenet import TABLE, looks_like_imagenet, read_imagenet
from rmatk.data.lists import read_aircraft, read_csv, read_split
from rmatk.data.photos import LAYOUT_HINT, Dataset, read_folder
from rmatk_runtime.errors import DataError

__all__ = ["Part", "Splits", "open_dataset", "open_splits", "prompts"]

Part = Literal["train", "val", "test"]
_FOLDERS: dict[Part, tuple[str, ...]] = {"train": ("train",), "val": ("val",), "test": ("test", "val")}
_PARTS = frozenset({"train", "val", "test"})


@dataclass(frozen=True)
class Splits:
    """A data set to learn from and one to be measured on, with the same classes in the same order."""

    name: str
    train: Dataset
    test: Dataset


def open_dataset(source: str | Path, part: Part) -> Dataset:
    """The labelled photos of one part of ``source``; a source without parts is taken whole.

    Where there is no ``test`` folder but a ``val`` folder, as in ImageNet, that is the test part.

    Raises:
        DataError: nothing there, or nothing that can be read; see the readers.
    """
    path = Path(source)
    if path.is_file():
        if path.suffix.lower() == ".json":
            return read_split(path, part)
        if path.suffix.lower() == ".csv":
            return read_csv(path)
        raise DataError(f"expected a folder, a .csv or a split .json, found {path}", LAYOUT_HINT)
    if not path.is_dir():
        raise DataError(f"expected labelled photos, found nothing at {path}", LAYOUT_HINT)
    return _open_folder(path, part)


def open_splits(source: str | Path) -> Splits:
    """The training and test parts of ``source``, the test photos under the training part's classes.

    Raises:
        DataError: as :func:`open_dataset`; parts that share photos; classes of the test part that are not
            in the training part.
    """
    train, test = open_dataset(source, "train"), open_dataset(source, "test")
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


def _open_folder(path: Path, part: Part) -> Dataset:
    """A folder of photos, of parts, or of a benchmark."""
    if (path / AIRCRAFT.split).is_file():
        return read_aircraft(path, part)
    if splits := sorted(path.glob("split_zhou_*.json")):
        return read_split(splits[0], part)
    for name in _FOLDERS[part]:
        if (path / f"{name}.csv").is_file():
            return read_csv(path / f"{name}.csv")
    folders = [f for f in path.iterdir() if f.is_dir() and f.name[0] != "."]
    if folders and {f.name for f in folders} <= _PARTS:
        for name in _FOLDERS[part]:
            if (path / name).is_dir():
                return _open_folder(path / name, part)
        raise DataError(
            f"expected a folder {' or '.join(_FOLDERS[part])} in {path}, found neither", LAYOUT_HINT
        )
    if (path / TABLE).is_file() and len(folders) == 1:
        return _open_folder(folders[0], part)
    return read_imagenet(path) if looks_like_imagenet(path) else read_folder(path)
