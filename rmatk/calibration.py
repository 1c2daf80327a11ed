"""Fits the temperature and the reject threshold to the validation photos.

The temperature T divides the logits so that probabilities mean what they say: it minimises the negative
log likelihood of the validation shots (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
The threshold is then the largest probability that a stated share of right answers reaches for sure.
Both are fitted after training, on photos that training did not see. A few photos tell little: then neither is
set, and a note says why.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from rmatk_runtime.arrays import Float64
from rmatk_runtime.bundle.label_head import softmax

KEPT_SHARE = 0.95
"""Of the right answers on validation shots, how many the threshold still lets through."""
LEAST_SHOTS = 20
LEAST_PER_CLASS = 2
LEAST_RIGHT = 10
"""Right answers below which their lowest probability says nothing."""
_LOWEST, _HIGHEST = 0.1, 10.0
_GOLDEN = (math.sqrt(5) - 1) / 2


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``temperature`` divides logits; below ``reject_threshold`` no answer is given (None: always one).

    ``note``: why one of them was left alone; None: both were fitted, on ``images`` validation shots.
    """

    temperature: float = 1.0
    reject_threshold: float | None = None
    images: int = 0
    note: str | None = None


def calibrate(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int) -> Calibration:
    """Fit both to validation logits.

    Args:
        logits: (N, C) float32, scaled by exp(t).
        labels: true classes (N,) int64.
        classes: C.
    """
    fewest = int(np.bincount(labels, minlength=classes).min())
    needed = max(LEAST_PER_CLASS, math.ceil(LEAST_SHOTS / classes))
    if not len(labels):
        return Calibration(
            note="temperature and reject threshold are not fitted: training took every photo; with fewer "
            f"--shots, or {needed} more photos per class, some are left to fit them on"
        )
    if len(labels) < LEAST_SHOTS or fewest < LEAST_PER_CLASS:
        return Calibration(
            images=len(labels),
            note=f"temperature and reject threshold are not fitted: {len(labels)} validation shots, {fewest} "
            f"of the class with the fewest; {LEAST_SHOTS} in all and {LEAST_PER_CLASS} per class are needed: "
            f"{needed} photos of each class beyond its --shots give them",
        )
    wide = logits.astype(np.float64)
    temperature, notes = fit_temperature(wide, labels), []
    right = int((wide.argmax(axis=1) == labels).sum())
    if right == len(labels) or not _LOWEST * 1.01 < temperature < _HIGHEST / 1.01:
        # All right, or no better than chance: the likelihood has no maximum, and a bound means nothing.
        temperature = 1.0
        notes.append("the temperature stays 1: the validation shots do not determine it")
    threshold = None
    if right >= LEAST_RIGHT:
        threshold = reject_threshold(wide / temperature, labels)
        if (sure := kept_at_least(right)) < KEPT_SHARE:
            notes.append(
                f"the reject threshold keeps at least {sure:.0%} of right answers, not {KEPT_SHARE:.0%}: "
                f"only {right} validation shots are answered rightly"
            )
    else:
        notes.append(
            f"no reject threshold: only {right} of {LEAST_RIGHT} validation shots needed are answered rightly"
        )
    return Calibration(
        temperature=temperature,
        reject_threshold=threshold,
        images=len(labels),
        note="; ".join(notes) or None,
    )


def fit_temperature(logits: Float64, labels: npt.NDArray[np.int64]) -> float:
    """The T in [0.1, 10] that minimises the negative log likelihood of labels (N,) under logits (N, C) / T.

    The likelihood is concave in 1 / T, so a golden-section search over log T finds its one maximum.
    """

    def loss(log_temperature: float) -> float:
        probabilities = np.log(softmax(logits / math.exp(log_temperature)) + np.finfo(np.float64).tiny)
        return float(-probabilities[np.arange(len(labels)), labels].mean())

    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    while high - low > 1e-6:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def reject_threshold(
    logits: Float64, labels: npt.NDArray[np.int64], kept: float = KEPT_SHARE
) -> float | None:
    """The probability that a new right answer reaches with at least the chance ``kept``; None: none is right.

    Split conformal prediction (Vovk et al., 2005; Angelopoulos and Bates, 2023): of n right answers and a
    new one, exchangeable with them, each is the k-th smallest with the same chance, so that the k-th
    smallest of the n, k = floor((1 - kept) (n + 1)), is reached with chance 1 - k / (n + 1) or more. It
    holds for every number of classes. Where k would be 0, n being too small for ``kept``, it is 1, which
    gives :func:`kept_at_least`.

    Args:
        logits: (N, C), divided by the temperature.
        labels: (N,).
        kept: in (0, 1].
    """
    right = logits.argmax(axis=1) == labels
    if not right.any():
        return None
    sure = np.sort(softmax(logits).max(axis=1)[right])
    return float(sure[_rank(len(sure), kept) - 1])


def kept_at_least(right: int, kept: float = KEPT_SHARE) -> float:
    """The share of right answers that the threshold keeps for sure, fitted to so many right ones."""
    return 1 - _rank(right, kept) / (right + 1)


def _rank(right: int, kept: float) -> int:
    return max(1, math.floor((1 - kept) * (right + 1) + 1e-9))
