"""LiveSource against scripted connections: what a device does, when, is decided by the test."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.prefetch import Prefetch
from rmatk_runtime.sources import SourceOptions, SourceState
from rmatk_runtime.sources.live import CLOSE_SECONDS, Connection, LiveSource, Picture

OPTIONS = SourceOptions()


def grey(level: int) -> Picture:
    return lambda: np.full((4, 6, 3), level, np.uint8)


def damaged() -> UInt8:
    raise DataError("half a picture")


class ScriptedConnection(Connection):
    """Yields ``script``: pictures; functions to call in between; an error to raise."""

    def __init__(self, *script: Picture | Callable[[], None] | SourceError | None, size: int = 6) -> None:
        self.size = (size, 4)
        self.script = script
        self.closed = 0
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[Picture | None]:
        for step in self.script:
            if isinstance(step, SourceError):
                raise step
            yield step

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.closed += 1


def connecting(*connections: Connection | SourceError) -> Callable[[], Connection]:
    """A ``connect`` that gives each in turn."""
    queue = list(connections)

    def connect() -> Connection:
        connection = queue.pop(0)
        if isinstance(connection, SourceError):
            raise connection
        return connection

    return connect


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits before another try are noted, not waited."""
    waits: list[float] = []
    wait = threading.Event.wait

    def noted(self: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread().name.startswith("rmatk-read"):
            waits.append(timeout or 0.0)
            return self.is_set()
        return wait(self, timeout)

    monkeypatch.setattr(threading.Event, "wait", noted)
    return waits


class Paced(ScriptedConnection):
    """Hands out each picture only when the test has asked for it with :meth:`send`."""

    def __init__(self, *script: Picture | SourceError | None) -> None:
        super().__init__(*script)
        self._permits = threading.Semaphore(0)
        self.taken = threading.Semaphore(0)

    def send(self, count: int = 1) -> None:
        """Let ``count`` pictures out, and wait until the reading thread has put them into the slot."""
        for _ in range(count):
            self._permits.release()
            assert self.taken.acquire(timeout=10)

    def __iter__(self) -> Iterator[Picture | None]:
        for picture in super().__iter__():
            self._permits.acquire()
            yield picture
            self.taken.release()
        self._permits.acquire()

    def cancel(self) -> None:
        self._permits.release()


def test_only_the_newest_frame_waits_and_the_others_are_counted() -> None:
    connection = Paced(*(grey(level) for level in range(10)))
    with LiveSource("cam", connecting(connection), OPTIONS) as source:
        frames = iter(source)
        threading.Timer(0.05, connection.send).start()
        first = next(frames)
        assert (first.index, first.image[0, 0, 0], first.time, source.dropped) == (0, 0, 0.0, 0)
        connection.send(4)
        fifth = next(frames)
        assert (fifth.index, fifth.image[0, 0, 0], source.dropped) == (4, 4, 3)
        assert fifth.time == pytest.approx(fifth.captured - first.captured) and fifth.time > 0
    assert connection.closed == 1


def test_a_device_that_ends_is_read_to_its_last_frame() -> None:
    connection = ScriptedConnection(*(grey(level) for level in range(5)))
    with LiveSource("cam", connecting(connection), OPTIONS) as source:
        frames = list(source)
    assert frames[-1].index == 4
    assert len(frames) + source.dropped == 5 and source.damaged == 0
    assert connection.closed == 1


def test_undecodable_frames_are_skipped_and_counted() -> None:
    connection = Paced(None, damaged, grey(7))
    with LiveSource("cam", connecting(connection), OPTIONS) as source:
        frames = iter(source)
        threading.Thread(target=connection.send, args=(3,)).start()
        frame = next(frames)
        assert frame.index == 2 and source.damaged + source.dropped == 2 and source.damaged >= 1


def test_a_first_connection_that_fails_is_told_at_once() -> None:
    with pytest.raises(SourceError, match="no route"):
        LiveSource("cam", connecting(SourceError("no route")), OPTIONS)


def test_a_lost_device_is_connected_again_and_frames_go_on(
    caplog: pytest.LogCaptureFixture, no_waits: list[float]
) -> None:
    first = ScriptedConnection(grey(1), SourceError("lost cam: unplugged"))
    last = Paced(grey(2), grey(3))
    connect = connecting(first, SourceError("cannot open cam"), SourceError("cannot open cam"), last)
    with caplog.at_level(logging.WARNING), LiveSource("cam", connect, OPTIONS) as source:
        frames = iter(source)
        threading.Thread(target=last.send).start()
        seen = [next(frames)]
        while seen[-1].image[0, 0, 0] != 2:
            seen.append(next(frames))
        assert source.state is SourceState.LIVE
        assert seen[-1].index == 1
    assert first.closed == last.closed == 1
    lines = [record.message for record in caplog.records]
    assert len(lines) == 4 and lines[-1] == "cam is live again"
    assert lines[0].startswith("lost cam: unplugged; trying again in ")
    for number, wait in enumerate(no_waits):
        assert 0.25 * 2**number <= wait <= 0.5 * 2**number


def test_it_gives_up_after_so_many_tries(no_waits: list[float]) -> None:
    gone = SourceError("cannot open cam", "plug it in")
    connect = connecting(ScriptedConnection(grey(1), gone), gone, gone, gone)
    with (
        LiveSource("cam", connect, SourceOptions(reconnect=3)) as source,
        pytest.raises(SourceError, match="gave up on cam after 3 tries: cannot open cam") as caught,
    ):
        assert [frame.index for frame in source] == [0]
    assert caught.value.hint == "plug it in"
    assert source.state is SourceState.GAVE_UP and len(no_waits) == 3


def test_tries_count_anew_after_a_picture(no_waits: list[float]) -> None:
    gone = SourceError("lost cam")
    flickering = [ScriptedConnection(grey(level), gone) for level in range(5)]
    connect = connecting(*flickering, ScriptedConnection(grey(5)))
    with LiveSource("cam", connect, SourceOptions(reconnect=1)) as source:
        assert list(source)[-1].index == 5
    assert len(no_waits) == 5 and max(no_waits) <= 0.5


def test_waits_stay_below_half_a_minute(no_waits: list[float]) -> None:
    gone = SourceError("cannot open cam")
    connect = connecting(ScriptedConnection(gone), *[gone] * 12)
    with LiveSource("cam", connect, SourceOptions(reconnect=12)) as source, pytest.raises(SourceError):
        list(source)
    whole = [min(30.0, 0.5 * 2**number) for number in range(12)]
    assert all(most / 2 <= wait <= most for wait, most in zip(no_waits, whole, strict=True))
    assert len(set(no_waits[-5:])) == 5  # all of half a minute, but for what chance takes off


def test_closing_does_not_wait_for_a_read_that_hangs() -> None:
    forever = threading.Event()

    class Hanging(ScriptedConnection):
        def __iter__(self) -> Iterator[Picture | None]:
            yield grey(1)
            forever.wait(20)

    connection = Hanging()
    source = LiveSource("cam", connecting(connection), OPTIONS)
    assert next(iter(source)).index == 0
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 5  # the read would hang for 20 s
    assert connection.cancelled.is_set() and connection.closed == 0
    forever.set()


def test_closing_from_another_thread_ends_the_iteration() -> None:
    connection = Paced(grey(1))
    source = LiveSource("cam", connecting(connection), OPTIONS)
    threading.Timer(0.1, source.close).start()
    assert list(source) == []
    source.close()
    assert connection.closed == 1


def test_closing_cuts_short_the_wait_for_another_try() -> None:
    connect = connecting(ScriptedConnection(grey(1), SourceError("lost cam")), *[SourceError("no")] * 99)
    source = LiveSource("cam", connect, OPTIONS)
    frames = iter(source)
    next(frames)
    source.close()
    assert next(frames, None) is None
    assert source._reading is not None and source._reading.join(5)


def test_a_source_never_read_is_released() -> None:
    connection = ScriptedConnection(grey(1))
    LiveSource("cam", connecting(connection), OPTIONS).close()
    assert connection.closed == 1


def test_a_mistake_in_the_thread_reaches_the_reader() -> None:
    class Broken(ScriptedConnection):
        def __iter__(self) -> Iterator[Picture | None]:
            raise ZeroDivisionError

    with LiveSource("cam", connecting(Broken()), OPTIONS) as source, pytest.raises(ZeroDivisionError):
        list(source)


def test_frames_are_turned_and_the_size_with_them() -> None:
    connection = ScriptedConnection(grey(1))
    with LiveSource("cam", connecting(connection), SourceOptions(rotate=90)) as source:
        assert source.info.size == (4, 6)
        assert [frame.image.shape for frame in source] == [(6, 4, 3)]


def test_a_read_that_cannot_be_cut_short_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    join = Prefetch.join

    def counted(self: Prefetch[object], seconds: float) -> bool:
        waits.append(seconds)
        return join(self, seconds)

    monkeypatch.setattr(Prefetch, "join", counted)
    silent = threading.Event()

    class Silent(ScriptedConnection):
        def __iter__(self) -> Iterator[Picture | None]:
            yield grey(1)
            silent.wait(30)

    source = LiveSource("cam", connecting(Silent()), OPTIONS)
    next(iter(source))
    for _ in range(3):
        source.close()
    assert 0.0 < waits[0] <= CLOSE_SECONDS and waits[1:] == [0.0, 0.0]
    silent.set()
