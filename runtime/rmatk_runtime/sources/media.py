"""Folders that hold photos and clips: what is read of them, and what is passed over and named."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from rmatk_runtime.errors import MissingExtraError, SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.pictures.files import IMAGE_SUFFIXES, is_image, natural_key, visible_files
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.sources.options import SourceOptions
from rmatk_runtime.sources.video import VideoSource

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".qt",
        ".mkv",
        ".webm",
        ".avi",
        ".divx",
        ".ts",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".vob",
        ".wmv",
        ".asf",
        ".flv",
        ".3gp",
        ".3g2",
        ".ogv",
        ".mjpeg",
        ".mjpg",
        ".h264",
        ".h265",
        ".hevc",
        ".dv",
        ".mxf",
        ".y4m",
    ]
)


def list_media(folder: Path) -> list[Path]:
    """All images and videos below ``folder``, in natural order of their relative paths.

    Raises:
        SourceError: there is none.
    """
    found = [
        path for path in visible_files(folder) if is_image(path) or path.suffix.lower() in VIDEO_SUFFIXES
    ]
    if not found:
        endings = " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise SourceError(f"no image in {folder}, and no video", f"files must end in one of {endings}")
    return sorted(found, key=lambda path: natural_key(str(path.relative_to(folder))))


def open_clip(path: Path, options: SourceOptions) -> Source:
    """A video among other files: one that cannot be read is passed over, as a photo is."""
    try:
        return VideoSource(path, options)
    except (SourceError, MissingExtraError) as error:
        log.warning("skipped: %s", error.message)
        return Unreadable(path, error)


class Unreadable(Source):
    """A file that was passed over; it gives nothing and counts as damaged."""

    def __init__(self, path: Path, error: SourceError | MissingExtraError) -> None:
        self.error = error
        self.captured = self.damaged = 1
        self.info = SourceInfo(str(path), None, None, 0, live=False)

    def __iter__(self) -> Iterator[Frame]:
        """Raise what opening it raised."""
        raise self.error
