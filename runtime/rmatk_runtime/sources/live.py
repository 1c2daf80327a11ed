"""Live sources: a thread reads the device, keeps only the newest frame, and reconnects.

A camera does not wait. Read in turn with inference, its driver or the network queues frames, and what is
classified is seconds old; so a thread of its own takes every frame, and the newest one waits in a single
slot. The same thread notices that the device is gone and reconnects.
"""

from __future__ import annotations

import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.prefetch import Prefetch
from rmatk_runtime.sources.base import Lane, Source, SourceInfo, SourceState
from rmatk_runtime.sources.frozen import StandStill
from rmatk_runtime.sources.options import SourceOptions, Thinning

log = logging.getLogger(__name__)

CLOSE_SECONDS = 0.4  # with an outbox, which waits as well, a run ends within a second
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0

Picture = Callable[[], UInt8]
"""Gives the pixels, (H, W, 3) uint8 RGB; called only for frames that are taken. DataError: damaged."""

_Arrival = tuple[Picture, int, float, float]  # with index, time and captured of its frame


class Connection(ABC):
    """One connection to a device, open from construction on; read, and closed, by one thread.

    ``size``: (width, height) pixels; ``rate``: frames per second; None where the device does not say.
    """

    size: tuple[int, int] | None = None
    rate: float | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Picture | None]:
        """Yield each picture as it comes, None for one that cannot be decoded, until the device ends.

        Raises:
            SourceError: the device is lost.
        """

    def cancel(self) -> None:  # noqa: B027 - not every read can be cut short
        """From another thread: end a read that waits, where that can be done."""

    @abstractmethod
    def close(self) -> None:
        """Release the device."""


class LiveSource(Source):
    """The newest frame of a device, taken when the reader is ready for it.

    Frames are numbered as they arrive, so a gap in ``index`` shows dropped frames. ``time`` is the capture
    clock: seconds from the first frame to this one's arrival, through losses too.

    If the first connection fails, the error is raised immediately. After a later loss, reconnection is tried
    ``options.reconnect`` times, with exponential backoff from half a second to half a minute and jitter, so
    that many devices do not reconnect to one server at the same time.
    """

    def __init__(self, name: str, connect: Callable[[], Connection], options: SourceOptions) -> None:
        """Connect; ``name`` is free of credentials, and so are the errors that ``connect`` raises."""
        self._name, self._connect, self._options = name, connect, options
        self.state = SourceState.CONNECTING
        self._connection: Connection | None = None if options.patient else connect()
        self.info = SourceInfo(name, None, None, frames=None, live=True)
        self._introduce()
        self._reading: Prefetch[_Arrival] | None = None
        self._closing = threading.Event()
        self._patience = 0.0  # until when a read that goes on is waited for
        self._lock = threading.Lock()  # of the connection, and of the count of those skipped
        self._random = random.Random()
        self._still, self._frozen_before = StandStill(), 0.0

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame each time one is asked for, waiting where there is none.

        Raises:
            SourceError: the device is lost, and not to be tried again.
        """
        lane = self.begin(threading.Condition())
        for arrival in lane.arrivals:
            if (frame := lane.frame(arrival)) is not None:
                yield frame

    def begin(self, changed: threading.Condition) -> Lane[_Arrival]:
        """See :meth:`Source.begin`; only frames that are taken are decoded."""
        self._reading = Prefetch(
            self._arrivals(),
            f"read {self._name}",
            newest=True,
            on_drop=self._note_drop,
            changed=changed,
        )
        return Lane(self._reading, self._frame)

    def _frame(self, arrival: _Arrival) -> Frame | None:
        """The frame of an arrival, or None where it cannot be decoded."""
        picture, index, time, captured = arrival
        try:
            image = self._options.turn(picture())
        except DataError as error:
            say = log.warning if self.damaged == 0 else log.debug  # the first is named, all are counted
            say("%s: frame %d cannot be decoded: %s", self._name, index, error.message)
            self._skip()
            return None
        self._note_stillness(self._still.seconds(image, captured))
        return Frame(image, index, time, self._name, captured)

    def _note_drop(self, arrival: _Arrival) -> None:
        self.dropped += 1

    def _introduce(self) -> None:
        """Say what is known of the pictures to come, once connected."""
        if self._connection is not None:
            size = self._options.turn_size(self._connection.size)
            self.info = replace(self.info, size=size, rate=self._connection.rate)

    def close(self) -> None:
        """End the reading within a second; a read that cannot be cut short is left to end by itself."""
        if not self._closing.is_set():
            self._patience = monotonic() + CLOSE_SECONDS  # for all calls of close together
        self._closing.set()
        if self._reading is None:
            self._release()
            return
        self._reading.close()
        with self._lock:
            if self._connection is not None:
                self._connection.cancel()
        self._reading.join(max(0.0, self._patience - monotonic()))

    def _arrivals(self) -> Iterator[_Arrival]:
        """Every frame as it comes, through losses of the device; run by the reading thread."""
        thinning = Thinning(self._options.rate)
        first: float | None = None
        for picture, captured in self._pictures():
            index, self.captured = self.captured, self.captured + 1
            first = captured if first is None else first
            if picture is None:
                self._skip()
            elif thinning.keeps(captured):
                yield picture, index, captured - first, captured
            else:
                self.out_of_range += 1

    def _pictures(self) -> Iterator[tuple[Picture | None, float]]:
        """Read until the device ends, or is lost for good."""
        losses = 0  # since the last picture
        while not self._closing.is_set():
            before = self.captured
            try:
                yield from self._read()
                return
            except SourceError as error:
                if self._closing.is_set():
                    return
                losses = 1 if self.captured > before else losses + 1
                self._await_next_try(error, losses)

    def _read(self) -> Iterator[tuple[Picture | None, float]]:
        """Read one connection to its end, and make it where there is none."""
        try:
            if self._connection is None:
                self._connection = self._connect()
                self._introduce()
            pictures = iter(self._connection)
            while not self._closing.is_set():
                try:
                    picture, captured = next(pictures), monotonic()
                except StopIteration:
                    return
                if self.state is SourceState.LOST:
                    log.warning("%s is live again", self._name)
                if self.state is not SourceState.FROZEN:  # which only a picture that moves can end
                    self.state = SourceState.LIVE
                yield picture, captured
        finally:
            self._release()

    def _release(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _note_stillness(self, seconds: float) -> None:
        """Tell a camera that stands still from one that is live."""
        if seconds > self._options.timeout:
            if self.state is SourceState.LIVE:
                self._frozen_before = self.frozen
                self.state = SourceState.FROZEN
                log.warning("%s is frozen: the same picture for %.0f s", self._name, seconds)
            self.frozen = self._frozen_before + seconds
        elif seconds < self._options.timeout and self.state is SourceState.FROZEN:
            self.state = SourceState.LIVE
            log.warning("%s moves again", self._name)

    def _skip(self) -> None:
        with self._lock:
            self.damaged += 1

    def _await_next_try(self, error: SourceError, losses: int) -> None:
        """Wait before the device is tried again.

        Raises:
            SourceError: it has been tried often enough.
        """
        limit = self._options.reconnect
        if limit is not None and losses > limit:
            self.state = SourceState.GAVE_UP
            if limit == 0:
                raise error
            raise SourceError(f"gave up on {self._name} after {limit} tries: {error.message}", error.hint)
        self.state = SourceState.LOST
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (losses - 1)) * self._random.uniform(0.5, 1.0)
        tries = "" if limit is None else f" ({losses} of {limit})"
        log.warning("%s; trying again in %.1f s%s", error.message, wait, tries)
        self._closing.wait(wait)
