"""CSI cameras and any GStreamer pipeline, through a ``gst-launch-1.0`` child that writes pictures to a pipe.

A child, since the alternatives depend on how something else was built: OpenCV's wheels come without
GStreamer, and PyGObject belongs to the system's Python, not to a virtual environment. ``gst-launch-1.0`` is
wherever GStreamer is, on every Jetson too, and takes with it what crashes.

The pictures come as the pipeline has them (:mod:`rmatk_runtime.sources.gdp`), because GStreamer's conversion
to RGB is neither FFmpeg's nor exact.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial

import msgspec
import numpy as np

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.platform import CSI_NEEDS_JETSON, jetson_model
from rmatk_runtime.sources.base import Source
from rmatk_runtime.sources.credentials import scrubbed, secrets_in, without_credentials
from rmatk_runtime.sources.gdp import BUFFER, CAPS, FORMATS, HEADER_BYTES, RawFormat, payload
from rmatk_runtime.sources.live import Connection, LiveSource, Picture
from rmatk_runtime.sources.options import SourceOptions
from rmatk_runtime.sources.pipe import TimedPipe

NEEDED = ("videoconvert", "gdppay")
"""What every pipeline here ends in."""
PACKAGES = {
    "gdppay": "gstreamer1.0-plugins-bad",
    "videoconvert": "gstreamer1.0-plugins-base",
    "videotestsrc": "gstreamer1.0-plugins-base",
    "v4l2src": "gstreamer1.0-plugins-good",
    "rtspsrc": "gstreamer1.0-plugins-good",
    "jpegdec": "gstreamer1.0-plugins-good",
    "avdec_h264": "gstreamer1.0-libav",
    "nvarguscamerasrc": "nvidia-l4t-gstreamer",
    "nvvidconv": "nvidia-l4t-gstreamer",
}
"""Debian's package (on a Jetson NVIDIA's) of the elements asked for most."""

_TOOL = "gst-launch-1.0"
_TAIL = ("!", "videoconvert", "!", f"video/x-raw,format={{{FORMATS}}}", "!", "gdppay", "!", "fdsink")
_LARGEST = 1 << 30  # bytes of a payload
_ERROR = re.compile(r"^ERROR: from element \S*/\w+:(.*)$|^WARNING: erroneous pipeline: (.*)$", re.MULTILINE)
_WHY = re.compile(r"reason (not-[\w-]+)")
_MISSING = re.compile(r'no element "(\S+)"')
_HINT = "try the pipeline by itself: gst-launch-1.0 PIPELINE ! fakesink"
_INSTALL = "sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad}"
_END_SECONDS = 0.5  # between asking a child to end and killing it
_LINES = 40  # of a child's messages: enough for its last words

# What nvvidconv calls flip-method, by our flip (done first) and rotate (clockwise)
_FLIP_METHODS = {
    (None, 0): 0, (None, 270): 1, (None, 180): 2, (None, 90): 3,
    ("horizontal", 0): 4, ("vertical", 180): 4, ("vertical", 0): 6, ("horizontal", 180): 6,
    ("horizontal", 90): 5, ("vertical", 270): 5, ("vertical", 90): 7, ("horizontal", 270): 7,
}  # fmt: skip


def open_gstreamer(uri: str, options: SourceOptions) -> Source:
    """``gst:PIPELINE``, as one writes it for gst-launch-1.0, up to raw video and without a sink.

    Raises:
        SourceError: GStreamer is not there, or the pipeline does not start; with GStreamer's own words.
    """
    text = uri.partition(":")[2]
    try:
        pipeline = shlex.split(text)
    except ValueError as error:
        raise SourceError(f"gst: the pipeline cannot be split into words: {error}", _HINT) from None
    name = without_credentials(uri)
    if not pipeline:
        raise SourceError("gst: names no pipeline", _HINT)
    options.check("camera", name)
    if options.size is not None or options.rate is not None:
        pipeline += ["!", _caps("video/x-raw", options)]
    return LiveSource(name, partial(GstConnection, name, pipeline, options.timeout), options)


def open_csi(uri: str, options: SourceOptions) -> Source:
    """``csi://0``: a camera on a Jetson's ribbon cable, mirrored and turned by the board's own hardware.

    Not refused in advance on other machines, because a board may not be recognised: the hint names the cause.

    Raises:
        SourceError: not a Jetson, no such camera.
    """
    number = uri.partition("://")[2]
    if not number.isdecimal():
        raise SourceError(f"{uri} names no CSI camera", "write csi://0 for the first, csi://1 for the second")
    options.check("camera", uri)
    pipeline = csi_pipeline(int(number), options)
    turned = msgspec.structs.replace(options, flip=None, rotate=0)
    try:
        return LiveSource(uri, partial(GstConnection, uri, pipeline, options.timeout), turned)
    except SourceError as error:
        if jetson_model() is not None:
            raise
        raise SourceError(error.message, f"{CSI_NEEDS_JETSON}; a USB camera is --camera 0") from error


def csi_pipeline(sensor: int, options: SourceOptions) -> list[str]:
    """The words of the pipeline that reads CSI camera ``sensor``; by default 1280x720 at 30 per second."""
    asked = msgspec.structs.replace(options, size=options.size or (1280, 720), rate=options.rate or 30)
    method = _FLIP_METHODS[options.flip, options.rotate]
    return [
        *("nvarguscamerasrc", f"sensor-id={sensor}", "!", _caps("video/x-raw(memory:NVMM)", asked)),
        *("!", "nvvidconv", f"flip-method={method}", "!", "video/x-raw,format=BGRx"),
    ]


def _caps(kind: str, options: SourceOptions) -> str:
    """``kind,width=1280,height=720,framerate=30/1``, with what is asked of it."""
    size = "" if options.size is None else ",width={},height={}".format(*options.size)
    if options.rate is None:
        return kind + size
    rate = Fraction(options.rate).limit_denominator(1001)
    return f"{kind}{size},framerate={rate.numerator}/{rate.denominator}"


class GstConnection(Connection):
    """A running pipeline; its first picture has come when it is constructed."""

    def __init__(self, name: str, pipeline: Sequence[str], seconds: float) -> None:
        self._name, self._secrets = name, secrets_in(pipeline)
        tool = shutil.which(_TOOL)
        if tool is None:
            raise SourceError(f"{name} needs {_TOOL}, which is not installed", _INSTALL)
        ours, theirs = os.pipe()
        self._child = subprocess.Popen(
            [tool, "-q", *pipeline, *_TAIL, f"fd={theirs}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(theirs,),
            start_new_session=True,  # a terminal's Ctrl-C is for us to hear, and to end the child
        )
        os.close(theirs)
        self._words: deque[str] = deque(maxlen=_LINES)
        self._listener = threading.Thread(target=self._listen, name="rmatk-gst-words", daemon=True)
        self._listener.start()
        self._reader = io.BufferedReader(TimedPipe(ours, seconds))
        try:
            self._format: RawFormat | None = None
            first = self._read()
            if first is None:
                raise SourceError(f"{name} ended without a picture", _HINT)
        except BaseException:
            self.close()
            raise
        self._first = first
        with suppress(DataError):  # a damaged one is named when it is taken
            self.size = first().shape[1::-1]

    def _listen(self) -> None:
        """Read the child's messages, so that it does not block on them, and keep the last ones."""
        assert self._child.stdout is not None
        with self._child.stdout as lines:
            self._words.extend(lines)

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures until the pipeline ends of itself."""
        picture: Picture | None = self._first
        while picture is not None:
            yield picture
            picture = self._read()

    def _read(self) -> Picture | None:
        """The next picture, or None where the pipeline ended of itself."""
        try:
            while header := self._reader.read(HEADER_BYTES):
                kind, size = payload(header)
                if size > _LARGEST:
                    raise ValueError(f"a payload of {size} bytes")
                data = np.empty(size, np.uint8)
                if self._reader.readinto(data.data) != size:
                    break
                if kind == CAPS:
                    self._format = RawFormat.parse(data.tobytes().decode("ascii", "replace"))
                elif kind == BUFFER and self._format is not None:
                    return partial(self._convert, self._format, data)
        except TimeoutError as error:
            raise self._failure(str(error)) from None
        except (KeyError, ValueError):
            raise self._failure("what it sends are no pictures") from None
        try:
            code = self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise self._failure("it sends no more") from None
        if code != 0:
            raise self._failure(f"{_TOOL} ended with code {code}")
        return None

    def _convert(self, stored: RawFormat, data: UInt8) -> UInt8:
        if len(data) < stored.size:
            raise DataError(f"a picture of {self._name} is cut short")
        return stored.to_rgb(data)

    def _failure(self, otherwise: str) -> SourceError:
        """What GStreamer says went wrong, or else what was seen from here."""
        if self._child.poll() is not None:
            self._listener.join(_END_SECONDS)  # until it has heard the last word
        said = "".join(self._words)
        match = _ERROR.search(said)
        words = otherwise if match is None else (match[1] or match[2])
        if match is not None and (why := _WHY.search(said)) is not None:
            words += f" ({why[1]})"
        verb = "cannot start" if self.size is None else "lost"
        return SourceError(f"{verb} {self._name}: {scrubbed(words, self._secrets)}", _hint(words))

    def cancel(self) -> None:
        """End the child, and with it every read that waits."""
        self._child.terminate()

    def close(self) -> None:
        """End the child, and wait until it is gone."""
        self._child.terminate()
        try:
            self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.close()


def _hint(words: str) -> str:
    """What to do about what GStreamer says."""
    if (missing := _MISSING.search(words)) is not None:
        element = missing[1]
        if element in PACKAGES:
            return f"sudo apt-get install {PACKAGES[element]}"
        return f"look for the package that has {element}; gst-inspect-1.0 lists the elements there are"
    if "could not link" in words:
        return "let the pipeline end in raw video (decodebin, jpegdec, ...) and leave out the sink"
    return _HINT
