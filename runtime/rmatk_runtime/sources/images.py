"""Image files as a source: one, many, or a folder walked in natural order."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.files import path_text
from rmatk_runtime.frames import Frame
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.sources.options import SourceOptions

log = logging.getLogger(__name__)

_UNREADABLE = "open it in a viewer, or save it again as JPEG or PNG"


class ImageSource(Source):
    """Decodes each path when its turn comes; images have no clock, so every ``time`` is 0.

    One unreadable image among many is logged, counted in ``damaged`` and passed over: a damaged photograph
    must not cost a night's work. Its index is not given to another, so indices still count files.
    """

    def __init__(self, paths: Sequence[Path], options: SourceOptions) -> None:
        for path in paths:
            if not path.exists():
                raise SourceError(f"no such image: {path}", "check the name")
        name = path_text(paths[0]) if len(paths) == 1 else f"{len(paths)} images in {_common_folder(paths)}"
        options.check("images", name)
        self._paths, self._options = tuple(paths), options
        self._bad = 0  # in this round
        frames = -(-len(paths) // options.stride)
        self.info = SourceInfo(name=name, size=None, rate=None, frames=frames, live=False)

    def __iter__(self) -> Iterator[Frame]:
        """Yield readable images as RGB, EXIF orientation applied.

        Raises:
            SourceError: the only image, or every one of them, cannot be read.
        """
        self._bad = 0
        for number, path in enumerate(self._paths):
            self.captured += 1
            if number % self._options.stride:
                self.out_of_range += 1
                continue
            try:
                picture = load_image(path, Decoding(self._options.stretch))
            except DataError as error:
                self._skip(error)
                continue
            image = self._options.turn(np.asarray(picture))
            yield Frame(image, number, 0.0, path_text(path))

    def _skip(self, error: DataError) -> None:
        self.damaged += 1
        self._bad += 1
        if self._bad < (self.info.frames or 0):
            log.warning("skipped: %s", error.message)
        elif self.info.frames == 1:
            raise SourceError(error.message, error.hint or _UNREADABLE) from error
        else:
            raise SourceError(
                f"none of {self.info.name} could be read; the last: {error.message}", _UNREADABLE
            ) from error


def _common_folder(paths: Sequence[Path]) -> str:
    return os.path.commonpath([path.absolute().parent for path in paths])
