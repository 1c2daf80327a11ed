from __future__ import annotations

import math

import numpy as np
import pytest

from rmatk.calibration import Calibration, calibrate, fit_temperature, kept_at_least, reject_threshold
from rmatk_runtime.bundle.label_head import softmax


def drawn(temperature: float, count: int = 400, classes: int = 5, seed: int = 0):
    """Logits (N, C) and labels drawn from softmax(logits / temperature), so that this is the right T."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (count, classes))
    probabilities = softmax(logits / temperature)
    return logits, np.array([rng.choice(classes, p=row) for row in probabilities])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_minimum_of_a_fine_grid(temperature):
    logits, labels = drawn(temperature)
    grid = np.exp(np.linspace(math.log(0.1), math.log(10), 20001))
    row = np.arange(len(labels))

    def loss(t):
        z = logits / t
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[row, labels])

    best = grid[np.argmin([loss(t) for t in grid[::20]]) * 20]
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(best, rel=0.01)
    assert fitted == pytest.approx(temperature, rel=0.2)
    assert loss(fitted) <= min(loss(fitted * 1.001), loss(fitted / 1.001))


@pytest.mark.parametrize(("right", "kept"), [(10, 10 / 11), (19, 0.95), (24, 24 / 25), (100, 1 - 5 / 101)])
def test_the_threshold_keeps_the_share_of_new_right_answers(right, kept):
    """By simulation: all answers right, their scores drawn alike; the next one reaches the threshold."""
    rng = np.random.default_rng(right)
    labels = np.zeros(right, np.int64)
    reached = []
    for _ in range(4000):
        logits = np.zeros((right + 1, 2))
        logits[:, 0] = rng.exponential(3, right + 1)
        threshold = reject_threshold(logits[:-1], labels)
        reached.append(softmax(logits[-1:]).max() >= threshold)
    assert kept_at_least(right) == pytest.approx(kept)
    assert np.mean(reached) == pytest.approx(kept, abs=3 * math.sqrt(kept * (1 - kept) / 4000))


def test_no_right_answer_gives_no_threshold():
    assert reject_threshold(np.eye(3) * 5, np.array([1, 2, 0])) is None


def test_both_are_fitted_in_float64_from_float32_logits():
    logits, labels = drawn(2.0)
    fitted = calibrate(logits.astype(np.float32), labels, 5)
    assert fitted.note is None and fitted.images == 400
    assert fitted.temperature == pytest.approx(fit_temperature(logits, labels), rel=1e-4)
    assert fitted.reject_threshold == pytest.approx(
        reject_threshold(logits / fitted.temperature, labels), rel=1e-5
    )


@pytest.mark.parametrize(
    "labels", [np.arange(19) % 3, np.array([0] * 20 + [1] * 20 + [2])], ids=["in all", "of a class"]
)
def test_too_few_shots_set_nothing_and_say_so(labels):
    logits = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    fitted = calibrate(logits, labels, 3)
    assert (fitted.temperature, fitted.reject_threshold) == (1.0, None)
    assert f"{len(labels)} validation shots" in fitted.note


def test_without_validation_shots_the_note_says_how_to_get_some():
    fitted = calibrate(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), 3)
    assert (fitted.temperature, fitted.reject_threshold, fitted.images) == (1.0, None, 0)
    assert "training took every photo" in fitted.note and "fewer --shots" in fitted.note


def test_shots_that_are_all_right_leave_the_temperature_alone():
    labels = np.arange(30) % 3
    logits = (np.eye(3)[labels] * 4 + np.random.default_rng(0).normal(0, 0.1, (30, 3))).astype(np.float32)
    fitted = calibrate(logits, labels, 3)
    assert fitted.temperature == 1.0 and "stays 1" in fitted.note
    assert 0.9 < fitted.reject_threshold < 1.0


def test_large_logits_do_not_overflow():
    fitted = calibrate(np.full((30, 3), 1e4, np.float32) + np.eye(3)[np.arange(30) % 3], np.arange(30) % 3, 3)
    assert isinstance(fitted, Calibration) and math.isfinite(fitted.reject_threshold)


def test_few_right_answers_set_no_threshold_and_say_so():
    labels = np.arange(24) % 4
    logits = np.zeros((24, 4), np.float32)
    logits[np.arange(24), (labels + 1) % 4] = 1.0  # wrong everywhere ...
    logits[:9] = 3.0 * np.eye(4, dtype=np.float32)[labels[:9]]  # ... but nine
    found = calibrate(logits, labels, 4)
    assert found.reject_threshold is None and "only 9 of 10 validation shots" in (found.note or "")
    logits[9] = 3.0 * np.eye(4, dtype=np.float32)[labels[9]]
    assert calibrate(logits, labels, 4).reject_threshold is not None
