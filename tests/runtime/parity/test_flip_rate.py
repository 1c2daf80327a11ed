"""How many labels small errors change: told from few photos, counted on many."""

from __future__ import annotations

import numpy as np
import pytest

from rmatk_runtime.parity.statistics import expected_flip_rate


@pytest.mark.parametrize("noise", [0.0003, 0.003, 0.03])
def test_two_dozen_shots_tell_what_a_hundred_thousand_photos_do(noise: float) -> None:
    """Errors of rates down to 1 in 1000 labels, of which 24 shots hold none."""
    rng = np.random.default_rng(1)

    def photos(count: int) -> tuple[np.ndarray, np.ndarray]:
        logits = rng.normal(size=(count, 6)) * 0.1
        return logits, rng.normal(size=(count, 6)) * noise

    logits, errors = photos(100_000)
    truth = ((logits + errors).argmax(axis=1) != logits.argmax(axis=1)).mean()
    told = [expected_flip_rate(*photos(24)) for _ in range(40)]
    assert 0.8 * truth < np.mean(told) < 1.25 * truth
    assert np.std(told) < 0.5 * truth


def test_no_errors_change_nothing_and_large_ones_much() -> None:
    logits = np.random.default_rng(0).normal(size=(10, 4))
    assert expected_flip_rate(logits, np.zeros_like(logits)) == 0.0
    assert expected_flip_rate(logits, np.full_like(logits, 7.0)) < 1e-6  # all classes alike
    assert expected_flip_rate(logits, -2 * logits) > 0.5
    assert expected_flip_rate(np.ones((3, 1)), np.ones((3, 1))) == 0.0  # one class is always right
