"""Counts and times of a run, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.inference.summary import KEPT, Tally, Times

FRAME = Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0, "camera")


def test_percentiles_are_of_the_last_times_only() -> None:
    times = Times()
    assert times.percentiles() is None
    values = np.random.default_rng(0).exponential(0.01, KEPT + 500)
    for value in values:
        times.add(float(value))
    found = times.percentiles()
    assert found is not None
    expected = 1e3 * np.percentile(values[500:].astype(np.float64), (50, 90, 99))
    np.testing.assert_allclose((found.p50, found.p90, found.p99), expected, atol=1e-3)


def test_the_time_of_a_block_is_shared_among_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.3])
    monkeypatch.setattr("rmatk_runtime.inference.summary.time.perf_counter", lambda: next(clock))
    times = Times()
    with times.of(3):
        pass
    found = times.percentiles()
    assert found is not None and found.p50 == found.p99 == pytest.approx(100.0)


def test_a_tally_counts_labels_and_what_was_rejected() -> None:
    tally = Tally()
    for label, rejected in (("can", False), ("can", False), ("box", False), ("box", True)):
        tally.count(FRAME, Prediction((Score(label, 0.5),), rejected))
    tally.damaged, tally.dropped = 1, 2
    summary = tally.summary(ended="interrupted")
    assert (summary.frames, summary.rejected, summary.skipped, summary.dropped) == (4, 1, 1, 2)
    assert list(summary.labels.items()) == [("can", 2), ("box", 1)]
    assert summary.stages == {} and summary.latency is None and summary.ended == "interrupted"
