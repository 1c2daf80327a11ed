from __future__ import annotations

import math

import numpy as np
import pytest

from rmatk_runtime.intervals import wilson, with_interval


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    # R 4.3: prop.test(right, of, correct = FALSE)$conf.int
    [
        (9, 12, 0.4676944, 0.9110583),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (46, 64, 0.598664, 0.8139),
    ],
)
def test_the_score_interval_is_that_of_the_formula(right, of, low, high):
    assert wilson(right / of, of) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize(("share", "of"), [(0.9, 12), (0.5, 20), (0.95, 200)])
def test_it_covers_the_true_share_about_95_times_of_100(share, of):
    """By the binomial distribution, exactly: the mean coverage over nearby shares."""
    coverage = []
    for true in np.linspace(share - 0.03, share + 0.03, 31):
        chance = [math.comb(of, k) * true**k * (1 - true) ** (of - k) for k in range(of + 1)]
        coverage.append(
            sum(p for k, p in enumerate(chance) if wilson(k / of, of)[0] <= true <= wilson(k / of, of)[1])
        )
    assert 0.93 < np.mean(coverage) < 0.98


def test_it_is_written_in_percent():
    assert with_interval(0.75, 12) == "75.0% (46.8 to 91.1)"
    assert with_interval(0.0, 0) == "0.0%"
