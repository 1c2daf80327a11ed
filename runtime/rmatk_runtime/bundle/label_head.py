"""From embeddings to predictions: class matrix, calibrated probabilities, top labels, reject threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmatk_runtime.arrays import Float32, Float64
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import BackendError
from rmatk_runtime.frames import Prediction, Score
from rmatk_runtime.settings import Problem, at_least, require


def softmax(logits: Float64) -> Float64:
    """Probabilities (N, C) of logits (N, C); each row sums to 1."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def label_problems(top_k: int, threshold: float | None) -> list[Problem]:
    """What is wrong with these two settings of a :class:`LabelHead`."""
    problems = at_least(1, top_k=top_k)
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        problems.append(("threshold", f"must be between 0 and 1, not {threshold}"))
    return problems


@dataclass(frozen=True)
class LabelHead:
    """An immutable snapshot of labels and decision settings, replaced atomically.

    ``top_k``: labels per prediction, at most as many as there are classes. ``threshold``: reject below this
    probability; None takes the decision's own.
    """

    classes: ClassMatrix
    decision: Decision
    top_k: int = 5
    threshold: float | None = None

    def __post_init__(self) -> None:
        require(*label_problems(self.top_k, self.threshold))

    @property
    def reject_below(self) -> float | None:
        """The threshold in force; None: nothing is rejected."""
        return self.decision.reject_threshold if self.threshold is None else self.threshold

    def probabilities(self, embeddings: Float32) -> Float32:
        """softmax(logit_scale / temperature * embeddings @ classes.T), computed in float64.

        Args:
            embeddings: (N, D) float32, unit length.

        Returns:
            (N, C) float32, each row sums to 1.

        Raises:
            BackendError: embeddings of another width, or not finite: no label follows from them.
        """
        width = self.classes.embeddings.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != width or not np.isfinite(embeddings).all():
            raise BackendError(
                f"the engine gave embeddings {embeddings.shape} that are not {width} finite numbers each",
                "rmatk parity BUNDLE; another precision or backend may work",
            )
        cosines = embeddings.astype(np.float64) @ self.classes.embeddings.astype(np.float64).T
        scale = self.decision.logit_scale / self.decision.temperature
        return softmax(cosines * scale).astype(np.float32)

    def predict(self, probabilities: Float32) -> Prediction:
        """The prediction for one row of probabilities (C,)."""
        # A stable sort keeps the class matrix' order among equals, so that ties never depend on the engine.
        best = np.argsort(-probabilities, kind="stable")[: self.top_k]
        top = tuple(Score(self.classes.names[i], float(probabilities[i])) for i in best)
        threshold = self.reject_below
        return Prediction(top, rejected=threshold is not None and top[0].probability < threshold)
