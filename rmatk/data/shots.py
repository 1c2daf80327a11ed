"""Which photos training may see: a few per class drawn at random, and some of the rest for validation.

The draw is made per class from (seed, class name), so that adding or removing another class never changes
which photos of this one are drawn.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rmatk.data.photos import Dataset, unreadable
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.decode import EXACT, Decoding, load_image

MOST_VALIDATION_SHOTS = 4
"""Per class, as CoOp draws them; more where classes are so few that nothing could be fitted to these."""
VALIDATION_SHOTS = 32
"""In all, if photos are there: what temperature and reject threshold are fitted to."""


@dataclass(frozen=True)
class FewShot:
    """What training may see: ``train`` and ``validation`` share class names; ``notes`` say what was short."""

    train: Dataset
    validation: Dataset
    notes: tuple[str, ...]

    def flat(self) -> tuple[list[Path], list[int]]:
        """Every file and its class index: the training photos, then the validation photos."""
        (seen, known), (unseen, held) = self.train.flat(), self.validation.flat()
        return [*seen, *unseen], [*known, *held]


def few_shot(dataset: Dataset, shots: int, seed: int) -> FewShot:
    """Draw ``shots`` photos per class for training and, from the rest, some for validation.

    These are up to four per class, or as many as make :data:`VALIDATION_SHOTS` of few classes.

    A class with fewer photos gives all it has to training; one note lists all such classes.

    Raises:
        DataError: one class only.
    """
    if len(dataset.class_names) < 2:
        places = [Path(name).parts for name in dataset.relative()]
        nested = len({place[1] for place in places if len(place) > 2}) > 1
        inner = f"if the folders in it are the classes, give {dataset.root / places[0][0]} as DATA"
        raise DataError(
            f"expected at least two classes, found only {dataset.class_names[0]!r} in {dataset.root}",
            inner if nested else "add a second class: photos of what it must be distinguished from",
        )
    kept = max(min(shots, MOST_VALIDATION_SHOTS), math.ceil(VALIDATION_SHOTS / len(dataset.class_names)))
    train, validation = [], []
    for name, files in zip(dataset.class_names, dataset.files, strict=True):
        order = _generator(seed, name).permutation(len(files))
        train.append(tuple(files[i] for i in sorted(order[:shots])))
        validation.append(tuple(files[i] for i in sorted(order[shots : shots + kept])))
    return FewShot(
        replace(dataset, files=tuple(train)),
        replace(dataset, files=tuple(validation)),
        (*dataset.notes, *_shortage(dataset, shots)),
    )


def _shortage(dataset: Dataset, shots: int) -> list[str]:
    """A note where classes have fewer photos than asked for: one, however many classes there are."""
    short = [
        (len(files), name)
        for name, files in zip(dataset.class_names, dataset.files, strict=True)
        if len(files) < shots
    ]
    if not short:
        return []
    fewest, name = min(short, key=lambda pair: pair[0])
    classes = "1 class has" if len(short) == 1 else f"{len(short)} classes have"
    return [f"{classes} fewer than {shots} photos (the fewest, {fewest}: {name}); training took all of them"]


def without_unreadable(shots: FewShot, max_bad: float, decoding: Decoding = EXACT) -> FewShot:
    """The same draw without photos that cannot be read, which the notes list; at most this share of them.

    With a share of 0 nothing is looked at: whoever reads the photos meets the error.

    Raises:
        DataError: more unreadable photos than that, naming them.
    """
    if not max_bad:
        return shots
    bad: dict[Path, str] = {}
    files = shots.flat()[0]
    for file in files:
        try:
            load_image(file, decoding)
        except DataError as error:
            bad[file] = error.message
    if len(bad) > max_bad * len(files):
        raise unreadable(list(bad.values()), len(files))

    def readable(part: Dataset) -> Dataset:
        return replace(part, files=tuple(tuple(f for f in own if f not in bad) for own in part.files))

    notes = (f"left out: {message}" for message in bad.values())
    return FewShot(readable(shots.train), readable(shots.validation), (*shots.notes, *notes))


def _generator(seed: int, name: str) -> np.random.Generator:
    """A stream of draws of its own for each (seed, class)."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
