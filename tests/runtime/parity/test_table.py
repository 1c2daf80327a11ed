"""A stage as a row: what was measured, in the units people read, and nothing where nothing was."""

from __future__ import annotations

import numpy as np

from rmatk_runtime.parity.stage import StageResult
from rmatk_runtime.parity.statistics import accuracy_difference
from rmatk_runtime.parity.table import SHORT, share, stage_row


def test_a_row_holds_accuracy_and_its_change_with_the_interval():
    right = np.repeat([True, False], [90, 10])
    worse = np.repeat([True, False], [85, 15])
    stage = StageResult(
        stage="engine",
        images=100,
        passed=False,
        reason="too far",
        tolerance=None,
        min_cosine=0.98765432,
        max_embedding_difference=0.0123,
        agreement=0.95,
        expected_changes=0.0375,
        accuracy=0.85,
        accuracy_difference=accuracy_difference(right, worse),
    )
    row = stage_row(stage)
    assert len(row) == len(SHORT)
    # (0 + 1 - 5 - 1) / 102 -+ 1.96 * sqrt(7 - 25 / 102) / 102
    assert row[:6] == ("engine", "100", "0.987654", "1.2e-02", "95.0%", "3.8%")
    assert row[6:] == ("-5.0 (-9.9, +0.1)", "FAILS")


def test_what_was_not_measured_stays_empty():
    row = stage_row(StageResult(stage="tokenizer", images=6, passed=True, reason=None, tolerance=None))
    assert row == ("tokenizer", "6", "", "", "", "", "", "ok")


def test_small_shares_keep_two_digits_and_none_is_called_nothing():
    assert [share(value) for value in (0.5, 0.00478, 0.00013, 3e-7, 0.0, None)] == [
        "50%",
        "0.48%",
        "0.013%",
        "<0.001%",
        "<0.001%",
        "",
    ]
