"""Smoothing against the sum written out in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rmatk_runtime.frames import Frame
from rmatk_runtime.inference.smoothing import SCENE_CHANGE, Smoother, thumbnail

NAMES = ("a", "b", "c")
TIMES = np.array([0.0, 0.04, 0.1, 0.5, 0.52, 1.9, 2.0])


def frame(time: float, level: int = 100) -> Frame:
    return Frame(np.full((48, 64, 3), level, np.uint8), 0, time, "camera")


def probabilities(count: int) -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.ones(3), size=count).astype(np.float32)


def reference(rows: np.ndarray, times: np.ndarray, half_life: float) -> np.ndarray:
    """The weighted mean of all rows so far, each weight written out, not the recursion."""
    smoothed = []
    for last in range(len(rows)):
        # What a row adds when it comes, and what is left of it at the last
        weights = [
            (1.0 if n == 0 else 1.0 - 0.5 ** ((times[n] - times[n - 1]) / half_life))
            * 0.5 ** ((times[last] - times[n]) / half_life)
            for n in range(last + 1)
        ]
        assert sum(weights) == pytest.approx(1.0)
        smoothed.append(np.average(rows[: last + 1].astype(np.float64), axis=0, weights=weights))
    return np.array(smoothed)


@pytest.mark.parametrize("half_life", [0.01, 0.3, 5.0])
def test_equals_the_weighted_mean(half_life: float) -> None:
    rows = probabilities(len(TIMES))
    smoother = Smoother(half_life)
    found = [smoother.smooth(frame(t), row, NAMES) for t, row in zip(TIMES, rows, strict=True)]
    np.testing.assert_allclose(found, reference(rows, TIMES, half_life), atol=1e-6)
    np.testing.assert_allclose(np.sum(found, axis=1), 1.0, atol=1e-6)


def test_the_half_life_is_one_in_time_at_any_rate() -> None:
    """A step from one label to another is half way after the half-life, at 2 and at 100 frames per second."""
    for rate in (2, 100):
        smoother = Smoother(0.5)
        smoother.smooth(frame(0.0), np.float32([1, 0, 0]), NAMES)
        for number in range(1, rate // 2 + 1):
            found = smoother.smooth(frame(number / rate), np.float32([0, 1, 0]), NAMES)
        np.testing.assert_allclose(found, [0.5, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("second", "names"),
    [
        (frame(0.1, level=100 + round(255 * SCENE_CHANGE) + 1), NAMES),
        (frame(0.0), NAMES),
        (frame(0.1), ("a", "b", "d")),
    ],
    ids=["another scene", "no time has passed", "other labels"],
)
def test_begins_anew(second: Frame, names: tuple[str, ...]) -> None:
    first, then = np.float32([1, 0, 0]), np.float32([0, 1, 0])
    smoother = Smoother(0.5)
    smoother.smooth(frame(0.0), first, NAMES)
    np.testing.assert_array_equal(smoother.smooth(second, then, names), then)


def test_a_number_of_labels_that_changes_is_no_error() -> None:
    smoother = Smoother(0.5)
    smoother.smooth(frame(0.0), np.float32([1, 0, 0]), NAMES)
    found = smoother.smooth(frame(0.1), np.float32([0.5, 0.5]), NAMES[:2])
    np.testing.assert_array_equal(found, [0.5, 0.5])


def test_a_change_of_light_below_the_threshold_goes_on() -> None:
    smoother = Smoother(0.5)
    smoother.smooth(frame(0.0), np.float32([1, 0, 0]), NAMES)
    level = 100 + round(255 * SCENE_CHANGE) - 1
    assert smoother.smooth(frame(0.5, level), np.float32([0, 1, 0]), NAMES)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(480, 640, 3), (33, 1000, 3), (3, 2, 3)])
def test_thumbnails_are_of_one_size_and_keep_the_mean(shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 51, np.uint8)
    small = thumbnail(image)
    assert small.shape == (16, 16, 3) and small.dtype == np.float32
    np.testing.assert_allclose(small, 0.2)


def test_cuts_of_a_real_video_are_scene_changes_and_its_pans_are_not(shared_data) -> None:
    pytest.importorskip("av")
    from rmatk_runtime.sources import open_source

    with open_source(str(shared_data / "video" / "waste_pan_composed.mp4")) as source:
        small = [thumbnail(frame.image) for frame in source]
    steps = [float(np.abs(b - a).mean()) for a, b in pairwise(small)]
    assert [n + 1 for n, step in enumerate(steps) if step > SCENE_CHANGE] == [22, 44, 66, 88, 110]
