"""The numbers of one product in int8, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from rmatk_export.int8.gptq import WEIGHT_MAX, _compensated, int8_product


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_rounding_makes_up_for_its_own_errors(rng) -> None:
    """Against the elimination of OBQ: channel by channel is taken out of the inverse covariance."""
    rows = (rng.normal(size=(400, 150)) @ rng.normal(size=(150, 150)) / 12 + 3).astype(np.float32)
    weight = rng.normal(size=(150, 9)).astype(np.float32)
    steps = np.abs(weight).max(axis=0) / WEIGHT_MAX
    found = _compensated(weight, steps, rows)

    covariance = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
    inverse = np.linalg.inv(covariance + 0.01 * np.diag(covariance).mean() * np.eye(150))
    left, expected = weight.astype(np.float64), np.zeros((150, 9))
    for k in range(150):
        expected[k] = np.clip(np.rint(left[k] / steps), -WEIGHT_MAX, WEIGHT_MAX)
        left[k:] -= np.outer(inverse[k:, k], left[k] - expected[k] * steps) / inverse[k, k]
        inverse -= np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
    assert (found == expected).mean() > 0.999  # a tie may fall either way

    def error(int8: np.ndarray) -> float:
        return float((rows @ (int8 * steps) - rows @ weight).var(axis=0).mean())

    assert error(found) < 0.5 * error(np.rint(weight / steps))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_one_sided_input_is_centred_and_a_symmetric_one_is_not(rng, sign: int) -> None:
    """GELU's outputs use all 255 steps then: half the step, and so a quarter of the squared error."""
    x = rng.normal(size=(2000, 64)).astype(np.float32) * 2
    gelu = sign * x / (1 + np.exp(-1.702 * x)).astype(np.float32)
    weight = rng.normal(size=(64, 8)).astype(np.float32)
    found = int8_product(weight, gelu, float(gelu.min()), float(gelu.max()))
    assert sign * found.input.centre > 1.0
    exact = gelu.astype(np.float64) @ weight

    def error(centre: float, step: float) -> float:
        held = np.clip(np.rint((gelu - centre) / step), -127, 127) * step
        return float((held.astype(np.float64) @ weight - exact).var(axis=0).mean())

    plain = min(error(0.0, share * np.abs(gelu).max() / 127) for share in np.linspace(0.4, 1, 13))
    assert error(found.input.centre, found.input.step) < 0.4 * plain
    assert int8_product(weight, x, float(x.min()), float(x.max())).input.centre == 0.0


def test_the_bias_takes_the_centre_and_the_mean_error_back(rng) -> None:
    rows = np.abs(rng.normal(size=(512, 40))).astype(np.float32)
    weight = rng.normal(size=(40, 6)).astype(np.float32)
    found = int8_product(weight, rows, 0.0, float(rows.max()))
    held = np.clip(np.rint((rows - found.input.centre) / found.input.step), -127, 127)
    product = held.astype(np.float64) @ found.weight * found.weight_steps * found.input.step
    left = rows.astype(np.float64) @ weight - (product + found.correction)
    np.testing.assert_allclose(left.mean(axis=0), 0.0, atol=1e-5)
    assert np.abs(found.correction).max() > 1.0  # the centre's share


def test_an_input_that_is_always_zero_and_a_weight_without_one_channel_are_no_faults(rng) -> None:
    weight = rng.normal(size=(16, 4)).astype(np.float32)
    weight[:, 2] = 0.0
    found = int8_product(weight, np.zeros((32, 16), np.float32), 0.0, 0.0)
    assert np.isfinite(found.weight_steps).all() and not found.weight[:, 2].any()
    assert found.input.step > 0 and np.abs(found.correction).max() < 1e-9
