"""Annotated images in a folder."""

from __future__ import annotations

import io
from pathlib import Path, PurePath

from PIL import Image

from rmatk_runtime.errors import naming_storage_errors
from rmatk_runtime.files import write_atomic
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.annotate import annotate
from rmatk_runtime.sinks.base import Sink


class ImagesSink(Sink):
    """Writes ``000000-NAME.jpg``, numbered by result; each file appears whole.

    ``append``: the numbers go on after those that are in the folder.
    """

    def __init__(self, folder: Path, *, append: bool = False) -> None:
        self._folder = folder
        with naming_storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            there = (path.name.partition("-")[0] for path in folder.glob("*-*.jpg")) if append else ()
            self._count = max((int(number) + 1 for number in there if number.isdecimal()), default=0)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write one annotated JPEG. Raises StorageError."""
        data = io.BytesIO()
        Image.fromarray(annotate(frame.image, prediction)).save(data, "JPEG", quality=90)
        # A stream's name may hold characters that no file name can
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in PurePath(frame.source).stem)
        write_atomic(self._folder / f"{self._count:06d}-{stem[:80]}.jpg", data.getvalue())
        self._count += 1
