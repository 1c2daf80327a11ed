"""Comparing two implementations in terms of predictions.

A stage is compared by its embeddings (cosine, largest difference), its logits, and above all its labels:
which images flip, and with what margin the reference had decided. The usual check, an elementwise difference
of 1e-5 on random input, fails every fp16 engine and says nothing about labels (TensorRT #2709, #2999; optimum
#449).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from rmatk_runtime.arrays import Float32, Float64
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead, softmax
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision, Precision, Tolerance
from rmatk_runtime.parity.stage import Flip, StageKind, StageResult
from rmatk_runtime.parity.statistics import accuracy_difference, expected_flip_rate

TOLERANCES: dict[Precision, Tolerance] = {
    # Same operations in the same precision: only the order of sums differs, over a dozen blocks.
    "fp32": Tolerance(min_cosine=0.99999, max_embedding_difference=1e-4, min_agreement=1.0),
    # 11 bits of significand; LayerNorm, softmax and the final norm stay in fp32.
    "fp16": Tolerance(min_cosine=0.999, max_embedding_difference=1e-2, min_agreement=0.99),
    # 8 bits. Accuracy on the validation shots is judged when the graph is made; here a golden set of the
    # hardest pictures may flip now and then.
    "int8": Tolerance(min_cosine=0.95, max_embedding_difference=0.1, min_agreement=0.85),
}
PROBABILITY_TOLERANCE = 1e-3  # float32 against float64: 1e-5 of a logit; int8 steps that round differently

WORST = 8
DECADES = 16  # of 1 - cosine: float32 embeddings agree to about 1e-14


@dataclass(frozen=True)
class Judge:
    """What turns embeddings into labels, and which differences pass for each precision."""

    classes: ClassMatrix
    decision: Decision
    tolerances: Mapping[Precision, Tolerance]

    @classmethod
    def of(cls, bundle: Bundle) -> Judge:
        """The bundle's own labels, decision and tolerances."""
        return cls(bundle.classes(), bundle.manifest.decision, bundle.manifest.tolerances)


@dataclass(frozen=True)
class Expected:
    """What the reference gave: ``names`` of N images, ``embeddings`` (N, D) float32, unit length; ``truth``:
    N true class names, where known."""

    names: Sequence[str]
    embeddings: Float32
    truth: Sequence[str] | None = None


def compare_embeddings(
    stage: str, kind: StageKind, precision: Precision, expected: Expected, found: Float32, judge: Judge
) -> StageResult:
    """Compare the embeddings ``found`` (N, D) float32 by a stage with those ``expected``."""
    a, b = expected.embeddings.astype(np.float64), found.astype(np.float64)
    names, tolerance = expected.names, judge.tolerances[precision]
    result = StageResult(stage=stage, kind=kind, images=len(a), passed=True, reason=None, tolerance=tolerance)
    if (lost := _incomparable(a, b)) is not None:
        worst = tuple(names[i] for i in lost[1][:WORST])
        return msgspec.structs.replace(result, passed=False, reason=lost[0], worst=worst)
    cosine = (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    matrix = judge.classes.embeddings.astype(np.float64).T
    scale = judge.decision.logit_scale / judge.decision.temperature
    logits_a, logits_b = a @ matrix * scale, b @ matrix * scale
    best_a, best_b = logits_a.argmax(axis=1), logits_b.argmax(axis=1)
    result = msgspec.structs.replace(
        result,
        min_cosine=float(cosine.min()),
        mean_cosine=float(cosine.mean()),
        max_embedding_difference=float(np.abs(a - b).max()),
        max_logit_difference=float(np.abs(logits_a - logits_b).max()),
        agreement=float((best_a == best_b).mean()),
        expected_changes=expected_flip_rate(logits_a, logits_b - logits_a),
        flips=_flips(logits_a, best_b, judge.classes.names, expected),
        worst=tuple(names[i] for i in cosine.argsort(kind="stable")[:WORST]),
        spread=_spread(cosine),
    )
    if expected.truth is not None:
        wanted = np.array([judge.classes.names.index(name) for name in expected.truth])
        right_a, right_b = best_a == wanted, best_b == wanted
        result = msgspec.structs.replace(
            result,
            accuracy=float(right_b.mean()),
            reference_accuracy=float(right_a.mean()),
            accuracy_difference=accuracy_difference(right_a, right_b),
        )
    reason = _failure(result, tolerance)
    return msgspec.structs.replace(result, passed=reason is None, reason=reason)


def compare_probabilities(stage: str, expected: Expected, found: Float32, judge: Judge) -> StageResult:
    """Compare the probabilities ``found`` (N, C) float32 with the runtime's own for the same embeddings."""
    wanted = LabelHead(judge.classes, judge.decision).probabilities(expected.embeddings)
    result = StageResult(
        stage=stage,
        kind=StageKind.CLASSIFIER,
        images=len(wanted),
        passed=False,
        reason=f"gave shape {found.shape}, not {wanted.shape}",
        tolerance=None,
    )
    if wanted.shape != found.shape:
        return result
    apart = np.abs(wanted - found).max(axis=1)
    apart[~np.isfinite(apart)] = np.inf
    worst = int(apart.argmax())
    reason = None
    if apart[worst] > PROBABILITY_TOLERANCE:
        most = f"{apart[worst]:.2e}, more than {PROBABILITY_TOLERANCE:.0e}"
        reason = f"a probability of {expected.names[worst]} differs by {most}"
    return msgspec.structs.replace(
        result,
        passed=reason is None,
        reason=reason,
        agreement=float((wanted.argmax(axis=1) == found.argmax(axis=1)).mean()),
        worst=(expected.names[worst],),
    )


def _incomparable(reference: Float64, candidate: Float64) -> tuple[str, list[int]] | None:
    """Why embeddings cannot be compared, and for which images; None where they can."""
    if reference.shape != candidate.shape:
        return f"gave shape {candidate.shape}, not {reference.shape}", list(range(len(reference)))
    finite = np.isfinite(candidate).all(axis=1)
    if finite.all():
        return None
    return "gave values that are not finite", np.flatnonzero(~finite).tolist()


def _failure(result: StageResult, tolerance: Tolerance) -> str | None:
    """The first limit that a complete result exceeds."""
    cosine, difference, agreement = result.min_cosine, result.max_embedding_difference, result.agreement
    assert cosine is not None and difference is not None and agreement is not None
    if cosine < tolerance.min_cosine:
        return f"cosine {cosine:.6f} is below {tolerance.min_cosine}"
    if difference > tolerance.max_embedding_difference:
        limit = tolerance.max_embedding_difference
        return f"an embedding differs by {difference:.2e}, more than {limit:.0e}"
    if agreement < tolerance.min_agreement:
        return f"top-1 agreement {agreement:.2%} is below {tolerance.min_agreement:.0%}"
    return None


def _spread(cosine: Float64) -> tuple[int, ...]:
    """How many images are in each decade of 1 - cosine, the farthest first."""
    decade = np.floor(-np.log10(np.clip(1.0 - cosine, 10.0**-DECADES, 1.0))).astype(np.int64)
    return tuple(np.bincount(np.clip(decade, 0, DECADES - 1), minlength=DECADES).tolist())


def _flips(
    logits: Float64, candidate: npt.NDArray[np.intp], classes: Sequence[str], expected: Expected
) -> tuple[Flip, ...]:
    """Changed labels, the largest margin of the reference first."""
    probabilities = softmax(logits)
    reference = logits.argmax(axis=1)
    flips = [
        Flip(
            image=expected.names[i],
            reference=classes[reference[i]],
            candidate=classes[candidate[i]],
            margin=float(probabilities[i, reference[i]] - probabilities[i, candidate[i]]),
            truth=None if expected.truth is None else expected.truth[i],
        )
        for i in np.flatnonzero(reference != candidate).tolist()
    ]
    return tuple(sorted(flips, key=lambda flip: -flip.margin))
