"""The paired interval against NumPy from the published formula, and against what it claims: its coverage."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest

from rmatk_runtime.parity.statistics import accuracy_difference


def answers(both: int, lost: int, gained: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, lost, gained, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize("cells", [(20, 3, 1, 8), (32, 0, 0, 0), (0, 5, 0, 0), (900, 10, 40, 50)])
def test_the_interval_is_walds_on_counts_raised_by_one(cells):
    both, lost, gained, neither = cells
    found = accuracy_difference(*answers(*cells))
    # One value of -1, 0 or 1 per image, one more lost and one more gained: the mean and its standard error.
    changes = np.repeat([-1.0, 1.0, 0.0], [lost + 1, gained + 1, both + neither])
    spread = 1.959964 * changes.std() / np.sqrt(len(changes))
    assert found.low == pytest.approx(max(-1.0, changes.mean() - spread), abs=1e-12)
    assert found.high == pytest.approx(min(1.0, changes.mean() + spread), abs=1e-12)
    reference, candidate = answers(*cells)
    assert found.difference == pytest.approx(candidate.mean() - reference.mean(), abs=1e-12)
    assert (found.lost, found.gained) == (lost, gained)


def test_what_did_not_change_still_has_an_interval_and_more_images_narrow_it():
    few, many = accuracy_difference(*answers(30, 0, 0, 2)), accuracy_difference(*answers(3000, 0, 0, 200))
    assert few.low < 0.0 == few.difference < few.high
    assert few.high - few.low > 50 * (many.high - many.low)


def test_the_order_of_images_and_what_both_share_do_not_matter():
    rng = np.random.default_rng(0)
    reference, candidate = answers(10, 4, 2, 9)
    order = rng.permutation(25)
    expected = accuracy_difference(reference, candidate)
    assert accuracy_difference(reference[order], candidate[order]) == expected
    turned = accuracy_difference(candidate, reference)
    assert (turned.low, turned.high) == pytest.approx((-expected.high, -expected.low))
    assert accuracy_difference(*answers(1, 4, 2, 18)) == expected


@pytest.mark.parametrize(("lost", "gained"), [(0.01, 0.01), (0.05, 0.01), (0.1, 0.1), (0.2, 0.02)])
@pytest.mark.parametrize("images", [30, 100])
def test_it_covers_the_true_difference_as_often_as_it_says(images: int, lost: float, gained: float):
    """Exactly: the probability, over all tables of so many images, that the interval holds the truth."""
    same, covered = 1.0 - lost - gained, 0.0
    for b, c in itertools.product(range(images + 1), repeat=2):
        if b + c > images:
            continue
        chance = comb(images, b) * comb(images - b, c) * lost**b * gained**c * same ** (images - b - c)
        if chance > 1e-9:
            found = accuracy_difference(*answers(images - b - c, b, c, 0))
            covered += chance * (found.low <= gained - lost <= found.high)
    assert covered >= 0.93
