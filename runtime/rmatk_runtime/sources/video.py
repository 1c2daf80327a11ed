"""Video files: every frame, in presentation order, upright."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.sources.pyav import import_av, reason, to_rgb_array

log = logging.getLogger(__name__)


class VideoSource(Source):
    """Decodes a video file with PyAV; ``time`` is the presentation time since the first frame.

    Frames that the file's index promises but its data lacks (an interrupted copy) are counted in ``skipped``.
    """

    def __init__(self, path: Path) -> None:
        self._av = import_av()
        try:
            self._container = self._av.open(str(path))
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(
                f"{path} is neither an image nor a video that can be read: {reason(error)}",
                "play it in a viewer, or convert it to MP4",
            ) from error
        self._path = path
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise SourceError(f"{path} holds no video", "give a file with pictures in it")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate
        self.info = SourceInfo(
            name=str(path),
            size=(self._stream.width, self._stream.height),
            rate=float(rate) if rate else None,
            frames=self._stream.frames or None,
            live=False,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame as RGB.

        Raises:
            SourceError: the file is damaged; says how many frames were read before.
        """
        index = 0
        start: float | None = None
        try:
            for picture in self._container.decode(self._stream):
                stamp = picture.time
                if stamp is None:  # raw streams carry no clock
                    stamp = index / (self.info.rate or 25.0)
                start = stamp if start is None else start
                yield Frame(to_rgb_array(picture), index, stamp - start, self.info.name)
                index += 1
        except self._av.FFmpegError as error:
            raise SourceError(
                f"{self._path} is damaged after frame {index}: {reason(error)}",
                "convert it again, or cut it before that frame",
            ) from error
        if index == 0:
            raise SourceError(f"{self._path} holds no frame that can be decoded", "convert it to MP4")
        if self.info.frames is not None and index < self.info.frames:
            self.skipped = self.info.frames - index
            log.warning("%s is cut short: %d of its %d frames", self._path, index, self.info.frames)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
