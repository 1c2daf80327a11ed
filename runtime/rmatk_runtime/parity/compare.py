"""Parity: how far a stage's results lie from PyTorch's, in the terms a user cares about.

A stage is compared by its embeddings (cosine, largest difference), its logits, and above all by its answers:
which images change their label, and by what margin PyTorch had held it. Tolerances stand in one place, with
their reason; elementwise 1e-5 on random input, the usual check, fails every fp16 engine and says nothing
about labels (TensorRT #2709, #2999; optimum #449).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle.label_head import softmax
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision, Precision, Tolerance
from rmatk_runtime.parity.flip_rate import expected_changes
from rmatk_runtime.parity.paired import AccuracyDifference, accuracy_difference

TOLERANCES: dict[Precision, Tolerance] = {
    # Same operations in the same precision: only the order of sums differs, over a dozen blocks.
    "fp32": Tolerance(min_cosine=0.99999, max_embedding_difference=1e-4, min_agreement=1.0),
    # 11 bits of significand; LayerNorm, softmax and the final norm stay in fp32.
    "fp16": Tolerance(min_cosine=0.999, max_embedding_difference=1e-2, min_agreement=0.99),
    # 8 bits. Accuracy on the validation shots is judged when the graph is made; here a golden set of the
    # hardest pictures may flip now and then.
    "int8": Tolerance(min_cosine=0.95, max_embedding_difference=0.1, min_agreement=0.85),
}

PREPROCESSING = "preprocessing"  # the stage before every engine
WORST = 8
DECADES = 16  # of 1 - cosine: float32 embeddings agree to about 1e-14


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose label changed. ``margin``: by how much probability the reference had led; ``truth``: its
    true label, where known."""

    image: str
    reference: str
    candidate: str
    margin: float
    truth: str | None = None


class StageResult(msgspec.Struct, frozen=True, kw_only=True):
    """One stage against the reference; truthy when it passed.

    Accuracies are shares in [0, 1], None where the true labels are not known, as is their difference.
    ``reason`` says what failed. ``expected_changes``: the share of labels that such errors change, for
    pictures such as these, also where none of them shows it (``label_changes``). ``worst``: names of up to
    :data:`WORST` images with the least cosines, least first. ``spread``: how many images lie at 1 - cosine
    in [0.1, 1 or more), [0.01, 0.1), and so on, a decade each; the last of :data:`DECADES` counts all that
    lie closer.
    """

    stage: str
    images: int
    passed: bool
    reason: str | None
    tolerance: Tolerance | None
    min_cosine: float | None = None
    mean_cosine: float | None = None
    max_embedding_difference: float | None = None
    max_logit_difference: float | None = None
    agreement: float | None = None
    expected_changes: float | None = None
    accuracy: float | None = None
    reference_accuracy: float | None = None
    accuracy_difference: AccuracyDifference | None = None
    flips: tuple[Flip, ...] = ()
    worst: tuple[str, ...] = ()
    spread: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return self.passed


def compare_embeddings(
    stage: str,
    reference: Float32,
    candidate: Float32,
    *,
    classes: ClassMatrix,
    decision: Decision,
    tolerance: Tolerance,
    names: Sequence[str],
    truth: Sequence[str] | None = None,
) -> StageResult:
    """Compare two sets of image embeddings.

    Args:
        stage: what ``candidate`` came from.
        reference: (N, D) float32, PyTorch's with both branches.
        candidate: (N, D) float32.
        classes: the class matrix (C, D).
        decision: logit scale and temperature.
        tolerance: what passes.
        names: N image names for the list of flips.
        truth: N true class names, where known.
    """
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    if lost := _lost(a, b):
        return StageResult(
            stage=stage,
            images=len(a),
            passed=False,
            reason=lost[0],
            tolerance=tolerance,
            worst=tuple(names[i] for i in lost[1][:WORST]),
        )
    cosine = (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    matrix = classes.embeddings.astype(np.float64).T
    scale = decision.logit_scale / decision.temperature
    logits_a, logits_b = a @ matrix * scale, b @ matrix * scale
    best_a, best_b = logits_a.argmax(axis=1), logits_b.argmax(axis=1)
    measured: dict[str, Any] = {
        "min_cosine": float(cosine.min()),
        "mean_cosine": float(cosine.mean()),
        "max_embedding_difference": float(np.abs(a - b).max()),
        "max_logit_difference": float(np.abs(logits_a - logits_b).max()),
        "agreement": float((best_a == best_b).mean()),
        "expected_changes": expected_changes(logits_a, logits_b - logits_a),
    }
    if truth is not None:
        wanted = np.array([classes.names.index(name) for name in truth])
        right_a, right_b = best_a == wanted, best_b == wanted
        measured["accuracy"] = float(right_b.mean())
        measured["reference_accuracy"] = float(right_a.mean())
        measured["accuracy_difference"] = accuracy_difference(right_a, right_b)
    reason = _failure(measured, tolerance)
    return StageResult(
        stage=stage,
        images=len(a),
        passed=reason is None,
        reason=reason,
        tolerance=tolerance,
        flips=_flips(logits_a, best_b, classes.names, names, truth),
        worst=tuple(names[i] for i in cosine.argsort(kind="stable")[:WORST]),
        spread=_spread(cosine),
        **measured,
    )


def _lost(
    reference: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64]
) -> tuple[str, list[int]] | None:
    """Why embeddings cannot be compared, and for which images; None where they can."""
    if reference.shape != candidate.shape:
        return f"gave shape {candidate.shape}, not {reference.shape}", list(range(len(reference)))
    finite = np.isfinite(candidate).all(axis=1)
    if finite.all():
        return None
    return "gave values that are not finite", np.flatnonzero(~finite).tolist()


def _failure(measured: dict[str, Any], tolerance: Tolerance) -> str | None:
    if measured["min_cosine"] < tolerance.min_cosine:
        return f"cosine {measured['min_cosine']:.6f} is below {tolerance.min_cosine}"
    if measured["max_embedding_difference"] > tolerance.max_embedding_difference:
        return (
            f"an embedding differs by {measured['max_embedding_difference']:.2e}, "
            f"more than {tolerance.max_embedding_difference:.0e}"
        )
    if measured["agreement"] < tolerance.min_agreement:
        return f"top-1 agreement {measured['agreement']:.2%} is below {tolerance.min_agreement:.0%}"
    return None


def _spread(cosine: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """How many images lie in each decade of 1 - cosine, the farthest first."""
    decade = np.floor(-np.log10(np.clip(1.0 - cosine, 10.0**-DECADES, 1.0))).astype(np.int64)
    return tuple(np.bincount(np.clip(decade, 0, DECADES - 1), minlength=DECADES).tolist())


def _flips(
    logits: npt.NDArray[np.float64],
    candidate: npt.NDArray[np.intp],
    classes: Sequence[str],
    names: Sequence[str],
    truth: Sequence[str] | None,
) -> tuple[Flip, ...]:
    """Changed labels, the most serious (largest reference margin) first."""
    probabilities = softmax(logits)
    reference = logits.argmax(axis=1)
    flips = [
        Flip(
            image=names[i],
            reference=classes[reference[i]],
            candidate=classes[candidate[i]],
            margin=float(probabilities[i, reference[i]] - probabilities[i, candidate[i]]),
            truth=None if truth is None else truth[i],
        )
        for i in np.flatnonzero(reference != candidate).tolist()
    ]
    return tuple(sorted(flips, key=lambda flip: -flip.margin))
