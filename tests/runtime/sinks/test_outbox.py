"""The queue in front of a network: never waits, drops the oldest, tries again, ends soon."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.sinks.changes import Changes
from rmatk_runtime.sinks.outbox import CLOSE_SECONDS, Outbox, Refused, Unsent

SECONDS = 20.0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_messages_are_sent_in_order_and_the_rest_at_the_end() -> None:
    sent: list[bytes] = []
    outbox = Outbox("x", sent.append)
    messages = [str(n).encode() for n in range(100)]
    for message in messages:
        outbox.put(message)
    outbox.close()
    outbox.close()
    assert sent == messages and outbox.dropped == 0


def test_a_receiver_that_hangs_holds_nobody_up_and_the_oldest_give_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hang, called = threading.Event(), threading.Event()

    def send(message: bytes) -> None:
        called.set()
        hang.wait(SECONDS)
        sent.append(message)

    sent: list[bytes] = []
    outbox = Outbox("the receiver", send, limit=3)
    outbox.put(b"0")
    assert called.wait(SECONDS)
    for n in range(1, 11):
        outbox.put(str(n).encode())
    assert outbox.dropped == 7
    start = time.monotonic()
    outbox.close()
    assert CLOSE_SECONDS <= time.monotonic() - start < CLOSE_SECONDS + 5
    assert "the receiver: 11 results were not delivered: no answer yet" in caplog.text
    hang.set()
    eventually(lambda: sent == [b"0", b"8", b"9", b"10"])


def test_what_is_unsent_is_tried_again_and_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmatk_runtime.sinks.outbox.FIRST_WAIT", 0.001)
    caplog.set_level(logging.INFO)
    tries: list[bytes] = []

    def send(message: bytes) -> None:
        tries.append(message)
        if len(tries) <= 3:
            raise Unsent("no route")

    outbox = Outbox("x", send)
    outbox.put(b"a")
    outbox.put(b"b")
    eventually(lambda: len(tries) == 5)
    outbox.close()
    assert tries == [b"a", b"a", b"a", b"a", b"b"]
    assert caplog.text.count("cannot be reached, trying again: no route") == 1
    assert caplog.text.count("can be reached again") == 1 and outbox.dropped == 0


def test_what_is_refused_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[bytes] = []

    def send(message: bytes) -> None:
        if message == b"bad":
            raise Refused("it answers 400")
        sent.append(message)

    outbox = Outbox("x", send)
    for message in (b"bad", b"good"):
        outbox.put(message)
    outbox.close()
    assert sent == [b"good"] and outbox.dropped == 1
    assert "x refuses a result: it answers 400" in caplog.text
    assert "1 results were not delivered: it answers 400" in caplog.text


def test_closing_does_not_wait_for_the_next_try(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Event()

    def send(message: bytes) -> None:
        tried.set()
        raise Unsent("no route")

    outbox = Outbox("x", send)
    outbox.put(b"a")
    assert tried.wait(SECONDS)
    outbox.close()
    assert "x: 1 results were not delivered: no route" in caplog.text


def test_what_the_caller_knows_of_the_reason_is_told(caplog: pytest.LogCaptureFixture) -> None:
    waits = threading.Event()

    def send(message: bytes) -> None:
        waits.wait(SECONDS)

    outbox = Outbox("x", send, why=lambda: "no broker answers")
    outbox.put(b"a")
    outbox.close()
    waits.set()
    assert "x: 1 results were not delivered: no broker answers" in caplog.text


def answers(*labels: str | None) -> list[Prediction]:
    return [Prediction((Score(label or "any", 0.9),), rejected=label is None) for label in labels]


def test_changes_are_told_from_repetitions() -> None:
    predictions = answers("can", "can", None, None, "can", "box")
    changes = Changes("change")
    frame = Frame(np.zeros((1, 1, 3), np.uint8), 0, 0.0, "clip")
    assert [changes.wants(frame, p) for p in predictions] == [True, False, True, False, True, True]
    every = Changes("all")
    assert all(every.wants(frame, p) for p in predictions)
    other = replace(frame, camera="belt")  # each camera has its own last label
    assert [changes.wants(f, predictions[-1]) for f in (other, frame, other)] == [True, False, False]
