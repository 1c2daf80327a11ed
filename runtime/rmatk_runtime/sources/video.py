"""Video files: every frame, in presentation order, upright."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from rmatk_runtime.errors import SourceError
from rmatk_runtime.files import path_text
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import Source, SourceInfo
from rmatk_runtime.sources.options import SourceOptions, Thinning
from rmatk_runtime.sources.pyav import pixel_ratio, to_rgb_array
from rmatk_runtime.sources.recording import Recording
from rmatk_runtime.sources.upright import shown_size

log = logging.getLogger(__name__)

_ROUNDING = 1e-6  # seconds; presentation times are fractions


class VideoSource(Source):
    """Decodes a video file with PyAV; may be iterated again.

    ``time`` is the presentation time since the file's first frame, and goes on where timestamps jump.
    ``index`` counts frames from ``--start`` on. Frames that are damaged, or that the file's index or even
    rate promises and its data lacks, are left out and counted in ``damaged``.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        options.check("video", str(path))
        self._path, self._options = path, options
        recording = Recording(path)
        self._recording: Recording | None = recording
        stream = recording.stream
        if recording.videos > 1:
            log.warning(
                "%s holds %d videos: the one of %dx%d is read",
                path,
                recording.videos,
                stream.width,
                stream.height,
            )
        self._ratio = pixel_ratio(stream)
        size = options.turn_size(shown_size((stream.width, stream.height), self._ratio))
        self.info = SourceInfo(
            path_text(path), size, self._rate(recording), self._frames(recording), live=False
        )
        if path.is_file():  # opened again in its turn, so that a folder of clips does not hold them all open
            self.close()

    def _rate(self, recording: Recording) -> float | None:
        """Frames given per second of the video."""
        if recording.stream.average_rate is None:
            return None
        rate = float(recording.stream.average_rate) / self._options.stride
        return min(rate, self._options.rate or rate)

    def _frames(self, recording: Recording) -> int | None:
        """How many will be given, where that is known."""
        part = (self._options.start, self._options.stop, self._options.rate) != (None, None, None)
        return (
            None if part or recording.promised is None else -(-recording.promised[1] // self._options.stride)
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames asked for, as RGB.

        Raises:
            SourceError: no frame can be decoded; the video ends before the start.
        """
        if self._recording is None or self._recording.begun:
            self.close()
            self._recording = Recording(self._path)
        recording = self._recording
        start, stop = self._options.start or 0.0, self._options.stop
        thinning = Thinning(self._options.rate)
        index = 0
        for picture in recording.pictures(start):
            self.captured += 1
            if picture is None:
                self.damaged += 1
                continue
            time, frame = picture
            if stop is not None and time >= stop - _ROUNDING:
                self.out_of_range += 1
                break
            if time < start - _ROUNDING:
                self.out_of_range += 1
                continue
            if index % self._options.stride == 0 and thinning.keeps(time):
                image = self._options.turn(to_rgb_array(frame, self._ratio))
                yield Frame(image, index, time, self.info.name)
            else:
                self.out_of_range += 1
            index += 1
        self._report(recording, index)
        self.close()

    def _report(self, recording: Recording, read: int) -> None:
        """Hold that something came, and note what did not."""
        if read == 0 and self._options.start and not recording.lost:
            raise SourceError(
                f"--start {self._options.start:g} is after the last frame of {self._path}",
                "give a smaller --start",
            )
        why = f": {recording.error}" if recording.error else ""
        if read == 0:
            raise SourceError(
                f"{self._path} holds no frame that can be decoded{why}", "convert it to MP4 with H.264"
            )
        if recording.lost:
            log.warning(
                "%s: %d of its %d frames are damaged or missing%s",
                self._path,
                recording.lost,
                recording.lost + read,
                why,
            )

    def close(self) -> None:
        """Close the file."""
        if self._recording is not None:
            self._recording.close()
            self._recording = None
