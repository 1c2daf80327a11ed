"""Chooses which MatMuls to quantise so that the predicted flip rate stays within the budget.

A few images cannot show a loss of half a percentage point: one of 24 is 4 points. Two figures together can.
The flip rate limits the loss of accuracy, and a few images suffice to predict it
(``rmatk_runtime.parity.statistics``). With many images their own loss is the better estimate, because most
flipped labels were wrong before or are right afterwards. Whatever the prediction, the images themselves must
not lose more than the budget.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from rmatk_export.graph.sessions import graph_session
from rmatk_export.graph.values import infer
from rmatk_export.int8.gptq import Int8Product
from rmatk_export.int8.graph import quantise
from rmatk_export.int8.ranges import calibrate, products
from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.errors import ExportError
from rmatk_runtime.onnx_runtime.backend import run_session
from rmatk_runtime.parity.statistics import expected_flip_rate
from rmatk_runtime.progress import OnProgress, counted, no_progress

BUDGET = 0.005  # accuracy that int8 may cost, as a share
_BATCH = 16
_RANKING = 16  # shots on which products are ranked


@dataclass(frozen=True)
class CalibrationPhotos:
    """Photos for int8: ``images`` (N, 3, H, W) float32 normalised, on which ranges are measured, and
    ``shots`` (M, 3, H, W) with class indices ``labels`` (M,), on which accuracy is judged; ``held_out``:
    whether these are validation shots, or training photos because the run has no others."""

    images: Float32
    shots: Float32
    labels: npt.NDArray[np.int64]
    held_out: bool


class Quantisation(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen.

    ``float_products``: products of blocks left in float; ``int8_share``: of the blocks' multiplications;
    accuracies: top-1 in [0, 1], on ``images`` shots; ``held_out``: whether these are validation shots;
    ``expected_changes``: share of labels that int8 changes, too low where they are not: margins of photos
    that were trained on are wide.
    """

    float_products: tuple[str, ...]
    int8_share: float
    images: int
    held_out: bool
    accuracy_fp32: float
    accuracy_int8: float
    expected_changes: float

    @property
    def lost(self) -> float:
        """What accuracy lost on the shots, as a share. What was gained there is luck and does not count."""
        return max(self.accuracy_fp32 - self.accuracy_int8, 0.0)

    @property
    def worst_loss(self) -> float:
        """What accuracy loses at worst, as a share: no more than the labels that change, and no more than
        was lost on the shots and one standard error, each changed label being a loss or a gain."""
        return min(self.expected_changes, self.lost + math.sqrt(self.expected_changes / self.images))

    @property
    def within_budget(self) -> bool:
        """Whether neither the loss at worst nor that on the shots is beyond the budget."""
        return max(self.worst_loss, self.lost) <= BUDGET


def quantise_within_budget(
    model: onnx.ModelProto,
    calibration: CalibrationPhotos,
    classes: ClassMatrix,
    on_progress: OnProgress = no_progress,
) -> tuple[onnx.ModelProto, Quantisation]:
    """Quantise as many products as the budget allows: those that err most for what they gain stay float.

    Args:
        model: a float32 image graph.
        calibration: photos to measure ranges on and to judge by.
        classes: the class matrix (C, D).
        on_progress: called often; for large towers the search takes minutes.

    Raises:
        ExportError: not even one product in int8 keeps within the budget.
    """
    int8 = calibrate(model, calibration.images, on_progress)
    on_progress("judging all in int8", 0, 1)
    judge = _Judge(model, calibration, classes)
    graph, chosen = judge.quantised(int8)
    on_progress("judging all in int8", 1, 1)
    if chosen.within_budget:
        return graph, chosen
    order = judge.worst_first(int8, on_progress)
    counts = range(1, len(order))
    tries = counted("trying how many stay float", range(len(counts).bit_length()), on_progress)

    def rest(count: int) -> tuple[onnx.ModelProto, Quantisation]:
        return judge.quantised({name: int8[name] for name in order[count:]})

    def bears(count: int) -> bool:
        next(tries)  # of which there are no more than that
        return rest(count)[1].worst_loss <= BUDGET

    for count in counts[bisect_left(counts, True, key=bears) :]:
        graph, chosen = rest(count)  # a shot near a tie is lost by one and kept by the next
        if chosen.within_budget:
            return graph, chosen
    raise ExportError(
        f"int8 may cost more than {BUDGET:.1%} of accuracy, judged by {len(calibration.labels)} photos, "
        "whichever products stay float",
        "export fp16 instead: --precision fp16",
    )


class _Judge:
    """A float32 ``model`` and what its quantised versions do to the shots of ``calibration``."""

    def __init__(self, model: onnx.ModelProto, calibration: CalibrationPhotos, classes: ClassMatrix) -> None:
        self._model, self._shots, self._labels = model, calibration.shots, calibration.labels
        self._held_out = calibration.held_out
        self._matrix = classes.embeddings.T
        self._embeddings = _embed(model, self._shots)
        self._logits = self._embeddings @ self._matrix
        values = infer(model)
        self._work = {  # multiplications per image
            node.name: math.prod(map(int, values[node.input[0]].shape[1:]))
            * int(values[node.output[0]].shape[-1])
            for node in products(model)
        }

    def quantised(self, int8: Mapping[str, Int8Product]) -> tuple[onnx.ModelProto, Quantisation]:
        """The graph with the products of ``int8`` quantised, and what that costs."""
        graph = quantise(self._model, int8)
        after = _embed(graph, self._shots) @ self._matrix
        return graph, Quantisation(
            float_products=tuple(name.removesuffix(".matmul") for name in self._work if name not in int8),
            int8_share=sum(self._work[name] for name in int8) / sum(self._work.values()),
            images=len(self._labels),
            held_out=self._held_out,
            accuracy_fp32=self._accuracy(self._logits),
            accuracy_int8=self._accuracy(after),
            expected_changes=expected_flip_rate(self._logits, after - self._logits),
        )

    def worst_first(self, int8: Mapping[str, Int8Product], on_progress: OnProgress) -> list[str]:
        """Products, first the one that, quantised alone, turns the embeddings most by what it multiplies."""
        some = slice(None, None, -(-len(self._shots) // _RANKING))

        def turned(name: str) -> float:
            alone = _embed(quantise(self._model, {name: int8[name]}), self._shots[some])
            return float(1.0 - (alone * self._embeddings[some]).sum(axis=1).mean()) / self._work[name]

        by = {name: turned(name) for name in counted("ranking products", int8, on_progress)}
        return sorted(int8, key=by.__getitem__, reverse=True)

    def _accuracy(self, logits: Float32) -> float:
        return float((logits.argmax(axis=1) == self._labels).mean())


def _embed(model: onnx.ModelProto, images: Float32) -> Float32:
    """(N, 3, H, W) -> (N, D) on the CPU."""
    return run_session(graph_session(model), images, _BATCH)
