"""A video file as FFmpeg reads it: the pictures that can be decoded, and a count of those that cannot."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rmatk_runtime.errors import SourceError
from rmatk_runtime.sources.clock import Beat, Clock
from rmatk_runtime.sources.pyav import file_name, import_av, reason, report_damage, video_streams

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

_LEAPS = 0x0200  # FFmpeg's flag of formats whose timestamps may leap
_RETRIES = 20  # reads in a row that fail before the file counts as ended
_KEPT = 20_000  # packets since the last key frame, while a start is looked for
_USUAL_RATE = 25.0  # of a file that states none
_ONE_PACKET_ONE_PICTURE = frozenset(("h264", "hevc", "mjpeg"))
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave transparency out


class Recording:
    """An open video file; read once, close when done.

    ``lost``: pictures that are in the file, or should be, and cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._av = import_av()
        self._path = path
        self._file: IO[bytes] | None = None
        self._container = self._open()
        videos = video_streams(self._container)
        if not videos:
            self._container.close()
            raise SourceError(f"{path} holds no video", "give a file with moving pictures in it")
        self.videos = len(videos)
        self.stream: VideoStream = videos[0]
        self.stream.thread_type = "AUTO"
        report_damage(self.stream)
        self._decoder = self._alpha_decoder() or self.stream.codec_context
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or _USUAL_RATE)
        self._leaps = bool(self._container.format.flags & _LEAPS)
        self.begun = False
        self.lost = 0
        self.error: str | None = None
        self.promised = self._promised()
        self._beat = Beat(1 / self.rate)
        self._read = self._sent = self._came = self._failed = 0
        self._interlaced = False

    def _open(self) -> InputContainer:
        name = file_name(self._path)
        self._file = None if isinstance(name, str) else name
        try:
            container: InputContainer = self._av.open(name)
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(
                f"{self._path} is neither an image nor a video that can be read: {reason(error)}",
                "open it in a viewer; save a photo as JPEG, a video as MP4",
            ) from error
        return container

    def _alpha_decoder(self) -> VideoCodecContext | None:
        """What decodes the transparency of a WebM video."""
        name = _ALPHA_DECODERS.get(self.stream.codec_context.name)
        if self.stream.metadata.get("alpha_mode") != "1" or name not in self._av.codecs_available:
            return None
        decoder: VideoCodecContext = self._av.CodecContext.create(name, "r")
        return decoder

    def _promised(self) -> tuple[int, int] | None:
        """How many pictures the index lists, and how many of them an edit list leaves; None: no index."""
        if not self.stream.frames:
            return None
        entries = getattr(self.stream, "index_entries", ())  # empty where the index itself is lost
        sizes = [not entry.is_discard for entry in entries if entry.size]
        return (len(sizes), sum(sizes)) if sizes else (self.stream.frames, self.stream.frames)

    def pictures(self, start: float) -> Iterator[tuple[float, VideoFrame] | None]:
        """Each picture with its seconds since the file's first, from the last key frame before ``start`` on;
        None for one that cannot be decoded."""
        self.begun = True
        clock = Clock(str(self._path), 1 / self.rate, leaps=self._leaps)
        whole = not start
        packets = self._packets() if whole else self._from_key_frame(start, clock)
        for packet in packets:
            for frame in self._decode(packet):
                yield None if frame is None else (clock.time(frame.time), frame)
        if whole:
            yield from [None] * self._count_missing()

    def _decode(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame | None]:
        if packet.size and not packet.is_discard:
            self._sent += 1
        try:
            frames = self._decoder.decode(packet)
        except self._av.error.EOFError:  # at the end, behind an error
            return
        except self._av.FFmpegError as error:
            self._failed += 1
            self.error = reason(error)
            self.lost += 1
            yield None
            return
        for frame in frames:
            self._came += 1
            self._interlaced |= frame.interlaced_frame
            self.lost += frame.is_corrupt
            yield None if frame.is_corrupt else frame

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Every packet, over reads that fail."""
        failures = 0
        packets = self._container.demux(self.stream)
        while failures < _RETRIES:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (self._av.FFmpegError, OSError) as error:
                failures += 1
                self.error = reason(error)
                packets = self._container.demux(self.stream)
                continue
            failures = 0
            if packet.size:
                self._read += 1
                self._beat.add(_seconds(packet.dts, packet.time_base))
            yield packet

    def _count_missing(self) -> int:
        """What the index promises or an even beat lacks, and what the decoder kept without a word."""
        promised = self.promised
        missing = self._beat.missing if promised is None else max(0, promised[0] - self._read)
        if self._decoder.name in _ONE_PACKET_ONE_PICTURE and not self._interlaced:
            missing += max(0, self._sent - self._came - self._failed)
        self.lost += missing
        return missing

    def _from_key_frame(self, start: float, clock: Clock) -> Iterator[Packet[VideoStream]]:
        """The packets from the last key frame on that comes at ``start`` or before."""
        stream = self.stream
        if not self._leaps and stream.start_time is not None and stream.time_base is not None:
            origin = float(stream.start_time * stream.time_base)
            clock.shift = -origin
            try:
                self._container.seek(int((origin + start) * self._av.time_base))
            except self._av.FFmpegError:
                clock.shift = None
            yield from self._packets()
            return
        yield from self._walk_to(start, clock)

    def _walk_to(self, start: float, clock: Clock) -> Iterator[Packet[VideoStream]]:
        """As :meth:`_from_key_frame`, packet by packet: where timestamps may leap, none can be looked up."""
        decoding = Clock("", 1 / self.rate, leaps=True)
        kept: deque[Packet[VideoStream]] = deque(maxlen=_KEPT)
        packets = self._packets()
        first: float | None = None
        for packet in packets:
            shown, sent = (_seconds(stamp, packet.time_base) for stamp in (packet.pts, packet.dts))
            if shown is None or sent is None:
                kept.append(packet)
                continue
            now = decoding.time(sent)
            first = first if first is not None else shown + (decoding.shift or 0.0)
            if packet.is_keyframe:
                kept.clear()
                clock.shift = (decoding.shift or 0.0) - first
            kept.append(packet)
            if now > start:
                break
        if decoding.jumps:
            log.warning("%s: timestamps jump before --start; the times go on over them", self._path)
        yield from kept
        yield from packets

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        if self._file is not None:
            self._file.close()


def _seconds(stamp: int | None, base: Fraction | None) -> float | None:
    return None if stamp is None or base is None else float(stamp * base)
