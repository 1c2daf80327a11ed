"""How sure an accuracy is that was measured on so many photos.

Of 12 photos 9 right are 75 %, and may as well be 47 % or 91 %: no accuracy is shown without its interval.
"""

from __future__ import annotations

import math

_Z = 1.959964  # of a two-sided 95 %


def wilson(share: float, of: int) -> tuple[float, float]:
    """The 95 % score interval (low, high) of a share in [0, 1] of ``of`` >= 1 independent photos.

    Wilson (J. Am. Stat. Assoc. 22, 1927, 209-212): ``(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 +
    z^2/n)``. Unlike Wald's it holds for few photos and is not empty where all or none are right.
    """
    centre = share + _Z**2 / (2 * of)
    half = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    scale = 1 + _Z**2 / of
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def with_interval(share: float, of: int) -> str:
    """A share as ``75.0% (46.8 to 91.1)``; without interval of no photos."""
    return f"{share:.1%} ({interval(share, of)})" if of else f"{share:.1%}"


def interval(share: float, of: int) -> str:
    """The interval alone, in percent: ``46.8 to 91.1``; ``of`` >= 1."""
    low, high = wilson(share, of)
    return f"{100 * low:.1f} to {100 * high:.1f}"
