"""Annotated images in a folder."""

from __future__ import annotations

from pathlib import Path, PurePath

from rmatk_runtime.errors import naming_storage_errors
from rmatk_runtime.files import write_atomic
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.annotate import draw
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.jpeg import encode_jpeg
from rmatk_runtime.sinks.whole import Gathering


class ImagesSink(Sink):
    """Writes ``000000-NAME.jpg``, numbered by result; each file appears whole.

    ``append``: the numbers go on after those that are in the folder.
    """

    def __init__(self, folder: Path, *, append: bool = False) -> None:
        self._folder, self._gathering = folder, Gathering()
        with naming_storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            there = (path.name.partition("-")[0] for path in folder.glob("*-*.jpg")) if append else ()
            self._count = max((int(number) + 1 for number in there if number.isdecimal()), default=0)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write one annotated JPEG. Raises StorageError."""
        if (looked := self._gathering.add(frame, prediction)) is None:
            return
        name = fit_for_a_file(frame.camera or PurePath(frame.source).stem)
        picture = encode_jpeg(draw(looked), quality=90)
        write_atomic(self._folder / f"{self._count:06d}-{name}.jpg", picture)
        self._count += 1


def fit_for_a_file(name: str) -> str:
    """A camera's or stream's name as a part of a file's name, which cannot hold every character."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]
