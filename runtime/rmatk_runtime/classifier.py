"""Pictures to labels: preprocessing, image encoder, class matrix, calibrated probabilities, threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from rmatk_runtime.backends import Backend, open_backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import RmatkError
from rmatk_runtime.frames import Prediction, Score
from rmatk_runtime.labels import ClassMatrix
from rmatk_runtime.manifest import Decision
from rmatk_runtime.preprocess import Float32, PreprocessSpec, UInt8, preprocess


def probabilities(embeddings: Float32, classes: ClassMatrix, decision: Decision) -> Float32:
    """softmax(logit_scale / temperature * embeddings @ classes.T), computed in float64.

    Args:
        embeddings: (N, D) float32, unit length.
        classes: the class matrix (C, D).
        decision: logit scale and temperature.

    Returns:
        (N, C) float32, each row sums to 1.
    """
    cosines = embeddings.astype(np.float64) @ classes.embeddings.astype(np.float64).T
    logits = cosines * (decision.logit_scale / decision.temperature)
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


class Classifier:
    """A bundle made ready to answer. Use as a context manager, or call :meth:`close`."""

    def __init__(
        self,
        backend: Backend,
        spec: PreprocessSpec,
        classes: ClassMatrix,
        decision: Decision,
        *,
        top_k: int = 5,
        threshold: float | None = None,
    ) -> None:
        if top_k < 1:
            raise RmatkError(f"--top-k must be at least 1, not {top_k}")
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            raise RmatkError(f"--threshold must lie between 0 and 1, not {threshold}")
        self.backend = backend
        self.spec = spec
        self._classes = classes
        self._decision = decision
        self._top_k = min(top_k, len(classes.names))
        self._threshold = decision.reject_threshold if threshold is None else threshold

    @classmethod
    def open(
        cls,
        bundle: Path,
        *,
        backend: str = "auto",
        precision: str | None = None,
        allow_cpu: bool = False,
        top_k: int = 5,
        threshold: float | None = None,
    ) -> Classifier:
        """Verify a bundle and load its image encoder.

        Args:
            bundle: the bundle's folder.
            backend: see :func:`~rmatk_runtime.backends.open_backend`.
            precision: which of the bundle's graphs; None takes the first.
            allow_cpu: accept the CPU where a GPU backend was asked for but cannot start.
            top_k: labels per prediction, at most as many as there are classes.
            threshold: reject below this probability; None takes the bundle's own.

        Raises:
            BundleError: the bundle cannot be trusted.
            BackendError: no engine can run it here as asked.
        """
        opened = Bundle.open(bundle)
        manifest = opened.manifest
        classes = opened.classes()
        engine = open_backend(opened, backend, precision=precision, allow_cpu=allow_cpu)
        return cls(engine, manifest.preprocess, classes, manifest.decision, top_k=top_k, threshold=threshold)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the class matrix' order."""
        return self._classes.names

    def classify(self, images: Sequence[Image.Image | UInt8]) -> list[Prediction]:
        """Classify pictures of any sizes in one batch.

        Args:
            images: Pillow images, or (H, W, 3) uint8 RGB arrays.

        Returns:
            one prediction per picture, in order.
        """
        if not images:
            return []
        tensors = np.stack([preprocess(image, self.spec) for image in images])
        chances = probabilities(self.backend.embed(tensors), self._classes, self._decision)
        return [self._prediction(row) for row in chances]

    def _prediction(self, chances: Float32) -> Prediction:
        # A stable sort keeps the class matrix' order among equals, so that ties never depend on the engine.
        best = np.argsort(-chances, kind="stable")[: self._top_k]
        top = tuple(Score(self._classes.names[i], float(chances[i])) for i in best)
        rejected = self._threshold is not None and top[0].probability < self._threshold
        return Prediction(top, rejected)

    def close(self) -> None:
        """Release the engine."""
        self.backend.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
