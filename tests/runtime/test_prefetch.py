"""One item in stock: order, back-pressure, errors in their turn, ends from both sides."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from rmatk_runtime.errors import SourceError
from rmatk_runtime.prefetch import Prefetch

SECONDS = 20.0  # a bound for what should come at once


def counting(limit: int, taken: list[int]) -> Iterator[int]:
    for number in range(limit):
        taken.append(number)
        yield number


def test_items_come_in_order_from_another_thread() -> None:
    threads: set[str] = set()

    def items() -> Iterator[int]:
        for number in range(1000):
            threads.add(threading.current_thread().name)
            yield number

    assert list(Prefetch(items(), "count")) == list(range(1000))
    assert threads == {"rmatk-count"}


def test_no_more_than_one_item_lies_in_stock() -> None:
    taken: list[int] = []
    ahead = Prefetch(counting(100, taken), "count")
    seen = 0
    for number in ahead:
        assert number == seen
        seen += 1
        # the one here, one in stock, one in the hands of the thread
        assert len(taken) <= seen + 2
    assert seen == 100


def test_an_error_is_raised_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise SourceError("cut")

    seen = []
    with pytest.raises(SourceError, match="cut"):
        for item in Prefetch(items(), "x"):
            seen.append(item)
    assert seen == [1, 2]


def test_a_chain_passes_an_error_on_and_ends_every_thread() -> None:
    def failing(items: Prefetch[int]) -> Iterator[int]:
        for item in items:
            if item == 3:
                raise ValueError("three")
            yield item

    taken: list[int] = []
    first = Prefetch(counting(10**9, taken), "first")
    second = Prefetch(failing(first), "second")
    with pytest.raises(ValueError, match="three"):
        list(second)
    first.close()
    assert first.join(SECONDS) and second.join(SECONDS)
    assert len(taken) <= 6


def test_newest_replaces_what_was_not_taken_and_keeps_the_last() -> None:
    produced = threading.Event()

    def items() -> Iterator[int]:
        yield from range(10)
        produced.set()

    ahead = Prefetch(items(), "x", newest=True)
    assert produced.wait(SECONDS)
    assert list(ahead) == [9]
    assert ahead.dropped == 9


def test_closing_ends_the_thread_that_waits_for_room_and_the_one_that_waits_for_an_item() -> None:
    full = Prefetch(iter(range(10)), "full")
    assert full.wait(SECONDS)
    full.close()
    assert full.join(SECONDS) and list(full) == []

    forever = threading.Event()
    empty: Prefetch[int] = Prefetch(iter(lambda: int(forever.wait()), 1), "empty")
    reader = Prefetch(empty, "reader")
    assert not reader.wait(0.01)
    empty.close()
    assert list(reader) == [] and reader.join(SECONDS)
    assert not empty.join(0.0)  # still held by the read
    forever.set()
    assert empty.join(SECONDS)


def test_an_error_after_closing_is_not_raised() -> None:
    go = threading.Event()

    def items() -> Iterator[int]:
        go.wait()
        raise SourceError("the camera was closed under its reader")
        yield

    ahead = Prefetch(items(), "x")
    ahead.close()
    go.set()
    assert ahead.join(SECONDS) and list(ahead) == []


def test_a_generator_is_closed_by_the_thread_that_ran_it() -> None:
    closed_by: list[threading.Thread] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed_by.append(threading.current_thread())

    ahead = Prefetch(items(), "test")
    assert next(iter(ahead)) == 0
    ahead.close()
    assert ahead.join(5) and closed_by == [ahead._thread]
