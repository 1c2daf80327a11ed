"""What a comparison on a limited number of images says: the flip rate and the change of accuracy.

With about 24 images, small errors rarely flip a prediction, so zero observed flips does not rule out a flip
rate of 0.5 %. The flip rate is proportional to the errors as long as they are small:
:func:`expected_flip_rate` enlarges them until flips are frequent and scales the rate back. docs/RESULTS.md
compares the expected with the measured flip rate.

Two accuracies on the same images differ only by the images that exactly one side has right. An unpaired
interval ignores this and is far too wide; Wald's paired interval is empty where no prediction changed.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

_Z = 1.959964  # two-sided 95 %
_FREQUENT = 0.1  # flip rate that a few dozen images show reliably
_PAIRS = 4096  # pairs of image and error that are tried


class AccuracyDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Candidate minus reference as a share in [-1, 1], with its 95 % confidence interval ``low`` to ``high``.

    ``lost``: images that only the reference has right; ``gained``: only the candidate.
    """

    difference: float
    low: float
    high: float
    lost: int
    gained: int


def accuracy_difference(
    reference: npt.NDArray[np.bool_], candidate: npt.NDArray[np.bool_]
) -> AccuracyDifference:
    """Compare which of the same N images are right: ``reference`` and ``candidate`` (N,), N >= 1.

    The interval is Bonett and Price's adjusted Wald interval (J. Educ. Behav. Stat. 37, 2012, 479-488): with
    one image added to those lost and one to those gained, m = N + 2,
    ``(g - l) / m -+ z * sqrt((g + l - (g - l)^2 / m)) / m``. It keeps its coverage for few images and for
    few changes.
    """
    images = len(reference)
    lost = int((reference & ~candidate).sum())
    gained = int((candidate & ~reference).sum())
    apart, changed, size = gained - lost, gained + lost + 2, images + 2
    half = _Z * math.sqrt(changed - apart**2 / size) / size
    return AccuracyDifference(
        difference=apart / images,
        low=max(-1.0, apart / size - half),
        high=min(1.0, apart / size + half),
        lost=lost,
        gained=gained,
    )


def expected_flip_rate(logits: npt.NDArray[Any], errors: npt.NDArray[Any]) -> float:
    """The expected share in [0, 1] of predictions that errors of this size flip.

    Errors are doubled until a tenth of the predictions flip; the rate is divided by the same factor. Each
    image is tried with the errors of other images too, since an error does not depend on its image alone.
    The loop ends at the latest when the errors exceed all differences between logits, where doubling changes
    nothing any more.

    Args:
        logits: (M, C), M >= 1.
        errors: (M, C), in the unit of ``logits``.
    """
    predicted = logits.argmax(axis=1)
    largest_error, largest_gap = np.abs(errors).max(), 2 * np.abs(logits).max()
    shifts = range(min(len(logits), max(1, _PAIRS // len(logits))))
    factor = 1.0
    while largest_error > 0:
        moved = ((logits + factor * np.roll(errors, shift, axis=0)).argmax(axis=1) for shift in shifts)
        rate = float(np.mean([(labels != predicted).mean() for labels in moved]))
        if rate >= _FREQUENT or factor * largest_error > largest_gap:
            return rate / factor
        factor *= 2
    return 0.0
