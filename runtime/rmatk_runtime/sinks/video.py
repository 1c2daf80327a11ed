"""The annotated video: H.264 in MP4, written under a temporary name and renamed at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageOps

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import SinkError, StorageError, naming_storage_errors
from rmatk_runtime.files import replacing
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.sinks.annotate import draw
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.images import fit_for_a_file
from rmatk_runtime.sinks.whole import Gathering
from rmatk_runtime.sources.pyav import import_av, reason

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi")
_CLOCK = 60_000  # ticks per second: whole for all usual rates, and below MPEG-4's limit of 65,535


class VideoSink(Sink):
    """Frames keep their times, so the video plays at the source's speed even where frames were left out.

    Where time does not advance (images, the start of the next file) the frame follows ``1 / rate`` seconds
    after the one before. The first frame sets the size; others are fitted into it on black. Without a single
    frame no file is left; nor after an error while encoding.

    ``live``: written in fragments under its own name, so that what was recorded can be played whatever ends
    the process; see :func:`unused_name`.
    """

    def __init__(self, path: Path, *, rate: float | None = None, live: bool = False) -> None:
        self._av = import_av()
        if path.suffix.lower() not in SUFFIXES:
            raise SinkError(
                f"{path}: the name of a video must end in one of {' '.join(SUFFIXES)}",
                f"write {path.with_suffix('.mp4')}",
            )
        self._path = path
        self._rate = rate or 2.0
        self._step = max(1, round(_CLOCK / self._rate))
        self._offset = 0
        self._last = -self._step
        self._fragments, self._gathering = live, Gathering()
        self._partial: AbstractContextManager[Path] = nullcontext(path) if live else replacing(path)
        self._output: tuple[OutputContainer, VideoStream] | None = None

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Encode one annotated frame. Raises StorageError, SinkError."""
        if (looked := self._gathering.add(frame, prediction)) is None:
            return
        pixels = draw(looked)
        with self._discarding_on_error():
            container, stream = self._output or self._open(pixels)
            picture = self._av.VideoFrame.from_ndarray(_fit(pixels, stream), format="rgb24")
            picture.pts = self._stamp(frame.time)
            picture.time_base = Fraction(1, _CLOCK)
            container.mux(stream.encode(picture))

    def close(self) -> None:
        """Finish the video and give it its name. Raises StorageError, SinkError."""
        if self._output is None:
            return
        with self._discarding_on_error():
            container, stream = self._output
            container.mux(stream.encode())
            container.close()
            self._output = None
            self._partial.__exit__(None, None, None)

    def _open(self, pixels: UInt8) -> tuple[OutputContainer, VideoStream]:
        """Start the file with a frame (H, W, 3): H.264, or MPEG-4 part 2 where this FFmpeg has no x264."""
        partial = self._partial.__enter__()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        settings = {"flush_packets": "1"} if self._fragments else {}
        if self._fragments and self._path.suffix.lower() in (".mp4", ".mov"):
            settings["movflags"] = "frag_keyframe+empty_moov+default_base_moof"
        container: OutputContainer = self._av.open(f"file:{partial}", "w", options=settings)
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        rate = Fraction(self._rate).limit_denominator(1001)
        stream = cast("VideoStream", container.add_stream(codec, rate=rate))
        self._output = container, stream
        # Chroma is stored at half size, so both sides must be even
        stream.height, stream.width = (side + side % 2 for side in pixels.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        if codec == "libx264":
            stream.options = {"preset": "veryfast", "crf": "20"}
        if self._fragments:  # a fragment begins with a key frame: each second
            stream.codec_context.gop_size = max(1, round(self._rate))
        return self._output

    def _stamp(self, time: float) -> int:
        """Presentation time in ticks, always later than the last."""
        ticks = self._offset + round(time * _CLOCK)
        if ticks <= self._last:
            self._offset += self._last + self._step - ticks
            ticks = self._last + self._step
        self._last = ticks
        return ticks

    @contextmanager
    def _discarding_on_error(self) -> Iterator[None]:
        """Name what FFmpeg raises, and take the half-written file away."""
        try:
            with naming_storage_errors(self._path):
                yield
        except (self._av.FFmpegError, StorageError) as error:
            if self._output is not None:
                container, self._output = self._output[0], None
                with suppress(self._av.FFmpegError, OSError):
                    container.close()
                self._partial.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, StorageError):
                raise
            raise SinkError(
                f"cannot encode {self._path}: {reason(error)}", "rmatk doctor says what PyAV can write here"
            ) from error


class VideosSink(Sink):
    """A video for each camera: ``belt.mp4`` becomes ``belt-front.mp4`` for the camera ``front``."""

    def __init__(self, path: Path, rates: Mapping[str, float | None]) -> None:
        self.paths = {
            name: unused_name(path.with_stem(f"{path.stem}-{fit_for_a_file(name)}")) for name in rates
        }
        self._videos = {
            name: VideoSink(self.paths[name], rate=rate, live=True) for name, rate in rates.items()
        }

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Encode one annotated frame of its camera. Raises StorageError, SinkError."""
        self._videos[frame.camera].write(frame, prediction)

    def close(self) -> None:
        """Finish all of them."""
        with ExitStack() as stack:
            for video in self._videos.values():
                stack.callback(video.close)


def unused_name(path: Path) -> Path:
    """``path``, or where something has that name, one with the time: ``belt-20260501T123000Z.mp4``."""
    if not path.exists():
        return path
    return path.with_name(f"{path.stem}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}{path.suffix}")


def _fit(pixels: UInt8, stream: VideoStream) -> UInt8:
    """``pixels`` (H, W, 3) padded on black, and scaled where it is not of the first frame's size."""
    if pixels.shape[:2] == (stream.height, stream.width):
        return pixels
    size = (stream.width, stream.height)
    height, width = pixels.shape[:2]
    if (height + height % 2, width + width % 2) == (stream.height, stream.width):
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), size, Image.Resampling.BILINEAR))
