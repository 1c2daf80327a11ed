"""The difference of two accuracies on the same images, with its confidence interval.

Both answers are to the same images, so only those on which exactly one of the two is right speak: of 1,000
images, 3 lost and 1 gained are a difference of -0.2 points, whatever the accuracy. Unpaired intervals ignore
that and are far too wide; the usual paired one (Wald's) is empty where no answer changed.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

_Z = 1.959964  # of a two-sided 95 %


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

    The interval is Bonett and Price's adjusted Wald interval (J. Educ. Behav. Stat. 37, 2012, 479-488): one
    image is added to those lost and one to those gained,
    ``(g - l) / m -+ z * sqrt((g + l - (g - l)^2 / m)) / m`` with g, l so raised and m = N + 2. It keeps its
    coverage for few images and for few changes.
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
