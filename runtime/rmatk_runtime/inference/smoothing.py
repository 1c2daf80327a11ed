"""Temporal smoothing: probabilities averaged over time, restarted when the scene changes.

Probabilities are averaged, not logits: the average of calibrated probabilities stays a distribution, and one
frame that is wrong and sure of it cannot outweigh many that were not (the linear opinion pool; Genest and
Zidek, "Combining probability distributions", 1986). The weights fall with time, not with frames, so that the
same half-life means the same at any rate, and when frames are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.frames import Frame

SCENE_CHANGE = 0.05
"""Mean absolute difference of two thumbnails, as a share of the whole range, from which it is another scene.

A pan over photographs stays below 0.012, a cut between them is above 0.1 (640 x 480, 15 frames per second).
"""

_SIDE, _SAMPLES = 16, 64


@dataclass(frozen=True)
class _Seen:
    """What is kept of the frame before: ``average`` (C,) float64."""

    time: float
    thumbnail: npt.NDArray[np.float32]
    names: tuple[str, ...]
    average: npt.NDArray[np.float64]

    def goes_on_in(self, later: _Seen) -> bool:
        return (
            later.time > self.time
            and later.names == self.names
            and float(np.abs(later.thumbnail - self.thumbnail).mean()) < SCENE_CHANGE
        )


class Smoother:
    """Exponential smoothing of probabilities, of each camera and region for itself.

    After ``half_life`` seconds a frame counts half of what it did. It restarts when the picture changes
    at once (:data:`SCENE_CHANGE`), where time does not go on (images, the next file), and where the labels
    change.
    """

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._last: dict[tuple[str, str], _Seen] = {}

    def smooth(self, frame: Frame, probabilities: Float32, names: tuple[str, ...]) -> Float32:
        """The average up to and with ``frame``, which follows the frame given last of its stream.

        Args:
            frame: whose probabilities ``probabilities`` are.
            probabilities: (C,) float32.
            names: the C labels they belong to.

        Returns:
            (C,) float32, sums to 1 as ``probabilities`` does.
        """
        now = _Seen(frame.time, thumbnail(frame.looked_at), names, probabilities.astype(np.float64))
        last = self._last.get(frame.stream)
        if last is not None and last.goes_on_in(now):
            kept = 0.5 ** ((now.time - last.time) / self._half_life)
            now = replace(now, average=kept * last.average + (1.0 - kept) * now.average)
        self._last[frame.stream] = now
        return now.average.astype(np.float32)


def thumbnail(image: UInt8) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 -> (16, 16, 3) float32 in [0, 1]: means over up to 64 x 64 samples of the picture."""
    rows, columns = (max(1, side // _SAMPLES) for side in image.shape[:2])
    samples = Image.fromarray(np.ascontiguousarray(image[::rows, ::columns]))
    small = samples.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.array(small, dtype=np.float32)
    pixels /= np.float32(255.0)
    return pixels
