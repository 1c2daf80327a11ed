"""Video files: every frame, in presentation order, upright."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.sources.options import SourceOptions, Thinning
from rmatk_runtime.sources.pyav import import_av, reason, to_rgb_array

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

_ROUNDING = 1e-6  # seconds; presentation times are fractions


class VideoSource(Source):
    """Decodes a video file with PyAV; may be iterated again.

    ``time`` is the presentation time since the file's first frame, and ``index`` counts frames from
    ``--start`` on. Frames that the file's index promises but its data lacks (an interrupted copy) are counted
    in ``skipped``.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        options.check("video", str(path))
        self._av = import_av()
        self._path, self._options = path, options
        self._container, self._stream = self._open()
        self._begun = False
        whole = options.start is None and options.stop is None
        self._promised = (self._stream.frames or None) if whole else None
        size = options.turn_size((self._stream.width, self._stream.height))
        self.info = SourceInfo(str(path), size, self._rate(), self._frames(), live=False)

    def _rate(self) -> float | None:
        """Frames given per second of the video."""
        if self._stream.average_rate is None:
            return None
        rate = float(self._stream.average_rate) / self._options.stride
        return min(rate, self._options.rate or rate)

    def _frames(self) -> int | None:
        """How many will be given, where that is known."""
        if self._promised is None or self._options.rate is not None:
            return None
        return -(-self._promised // self._options.stride)

    def _open(self) -> tuple[InputContainer, VideoStream]:
        try:
            container = self._av.open(str(self._path))
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(
                f"{self._path} is neither an image nor a video that can be read: {reason(error)}",
                "open it in a viewer; save a photo as JPEG, a video as MP4",
            ) from error
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self._path} holds no video", "give a file with pictures in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return container, stream

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames asked for, as RGB.

        Raises:
            SourceError: the file is damaged, and how many frames were read before; it ends before the start.
        """
        if self._begun:
            self._container.close()
            self._container, self._stream = self._open()
        self._begun = True
        thinning = Thinning(self._options.rate)
        index = 0
        try:
            for time, picture in self._pictures():
                if index % self._options.stride == 0 and thinning.keeps(time):
                    image = self._options.turn(to_rgb_array(picture))
                    yield Frame(image, index, time, self.info.name)
                index += 1
        except self._av.FFmpegError as error:
            raise SourceError(
                f"{self._path} is damaged after frame {index}: {reason(error)}",
                "convert it again, or cut it before that frame",
            ) from error
        self._check_length(index)

    def _pictures(self) -> Iterator[tuple[float, VideoFrame]]:
        """Decode from ``--start`` to ``--stop``: each picture with its seconds since the file's first."""
        start, stop = self._options.start or 0.0, self._options.stop
        origin: float | None = None
        if start and self._stream.start_time is not None and self._stream.time_base is not None:
            origin = float(self._stream.start_time * self._stream.time_base)
            # to the last key frame before it; what lies between is decoded and passed over
            self._container.seek(int((origin + start) * self._av.time_base))
        for number, picture in enumerate(self._container.decode(self._stream)):
            stamp = picture.time
            if stamp is None:  # raw streams carry no clock
                stamp = number / float(self._stream.average_rate or 25.0)
            origin = stamp if origin is None else origin
            if stop is not None and stamp - origin >= stop - _ROUNDING:
                return
            if stamp - origin >= start - _ROUNDING:
                yield stamp - origin, picture

    def _check_length(self, read: int) -> None:
        """Hold that something came, and note what did not."""
        if read == 0 and self._options.start:
            raise SourceError(
                f"--start {self._options.start:g} is after the last frame of {self._path}",
                "give a smaller --start",
            )
        if read == 0:
            raise SourceError(f"{self._path} holds no frame that can be decoded", "convert it to MP4")
        self.skipped = max(0, (self._promised or 0) - read)
        if self.skipped:
            log.warning("%s is cut short: %d of its %d frames", self._path, read, self._promised)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
