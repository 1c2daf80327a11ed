"""Predicts how many labels small errors flip, from few photos.

Of two dozen photos hardly one lies so near a tie that a small error shows, so that "all labels are the same"
says nothing of half a percent. But as long as errors are small, the share of labels that they change grows in
proportion to them. So they are doubled until a tenth of the labels change, and that share is divided by as
much. Nor does an error belong to its photo alone: each photo meets the errors of others as well.

docs/RESULTS.md compares what was so foretold with what was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_SHOWN = 0.1  # share of labels at which a few dozen photos show it
_PAIRS = 4096  # of photos and errors, that are tried


def expected_changes(logits: npt.NDArray[Any], errors: npt.NDArray[Any]) -> float:
    """The share in [0, 1] of labels that ``errors`` (M, C) change, for photos such as those with ``logits``
    (M, C), both in one unit; M >= 1."""
    before, factor = logits.argmax(axis=1), 1.0
    largest, enough = np.abs(errors).max(), 2 * np.abs(logits).max()
    others = min(len(logits), max(1, _PAIRS // len(logits)))
    while largest > 0:
        moved = ((logits + factor * np.roll(errors, shift, axis=0)).argmax(axis=1) for shift in range(others))
        changed = float(np.mean([(labels != before).mean() for labels in moved]))
        if changed >= _SHOWN or factor * largest > enough:
            return changed / factor
        factor *= 2
    return 0.0
