"""Pictures to labels: preprocessing, image encoder, and the current labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np
from PIL import Image

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.errors import ConfigError
from rmatk_runtime.frames import Prediction
from rmatk_runtime.labels.watch import LabelWatch
from rmatk_runtime.pictures.decode import load_image
from rmatk_runtime.pictures.fast_resize import Resizing, fast_resize
from rmatk_runtime.pictures.preprocess import PreprocessSpec, normalise, resize
from rmatk_runtime.selection import open_backend
from rmatk_runtime.trust.releases import note_release

CLOSE_SECONDS = 5.0


class Classifier:
    """A bundle made ready to answer. Use as a context manager, or call :meth:`close`.

    >>> with rmatk.Classifier.open("bundle") as classifier:
    ...     (prediction,) = classifier.classify(["photo.png"])
    >>> prediction.label, len(prediction.top)
    ('red stripe', 3)

    ``head``: the labels in use. ``watch``: asked for changed ones by :meth:`refresh`; None keeps them.
    Several threads may use one classifier: they take turns at the engine. ``hangs``: after :meth:`close`,
    whether the engine still has not answered.
    """

    hangs = False

    def __init__(
        self,
        backend: Backend,
        spec: PreprocessSpec,
        head: LabelHead,
        watch: LabelWatch | None = None,
        resizing: Resizing = "exact",
    ) -> None:
        self.backend = backend
        self.spec = spec
        self.head = head
        self.resizing: Resizing = resizing
        self._watch = watch
        self._engine_turn, self._head_turn = Lock(), Lock()

    @classmethod
    def open(
        cls,
        bundle: Path | str,
        *,
        backend: str = "auto",
        precision: str | None = None,
        batch: int = 1,
        allow_cpu: bool = False,
        top_k: int = 5,
        threshold: float | None = None,
        threads: int = 0,
        trust: Path | None = None,
        resizing: Resizing = "exact",
    ) -> Classifier:
        """Verify a bundle and load its image encoder.

        Args:
            bundle: the bundle's folder.
            backend: see :func:`~rmatk_runtime.selection.open_backend`.
            precision: which of the bundle's graphs; None takes the first.
            batch: how many pictures will mostly come at once.
            allow_cpu: accept the CPU where a GPU backend was asked for but cannot start.
            top_k: labels per prediction, at most as many as there are classes.
            threshold: reject below this probability; None takes the bundle's own.
            threads: of an engine on the CPU, 0: one per core that this process may use.
            trust: a public key, or a folder of them, one of which must have signed the bundle.
            resizing: ``fast``: see :mod:`rmatk_runtime.pictures.fast_resize`.

        Raises:
            TrustError: no trusted key has signed it, or it is older than one that ran here.
            BundleError: the bundle cannot be trusted.
            BackendError: no engine can run it here as asked.
        """
        opened = Bundle.open(Path(bundle), trust)
        watch = LabelWatch(opened)
        head = LabelHead(opened.classes(), opened.manifest.decision, top_k, threshold)
        engine = open_backend(
            opened, backend, precision=precision, batch=batch, allow_cpu=allow_cpu, threads=threads
        )
        if opened.signature is not None:
            note_release(opened.signature)
        return cls(engine, opened.manifest.preprocess, head, watch, resizing)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the class matrix' order."""
        return self.head.classes.names

    def refresh(self) -> None:
        """Take over labels that were changed in the bundle; for the running loop, between two batches."""
        if self._watch is not None and (changed := self._watch.poll()) is not None:
            classes, decision = changed
            with self._head_turn:
                self.head = replace(self.head, classes=classes, decision=decision)

    def set_threshold(self, threshold: float | None) -> None:
        """Reject below ``threshold`` from now on; None: below the bundle's own. Raises ConfigError."""
        with self._head_turn:
            self.head = replace(self.head, threshold=threshold)

    def prepare(self, images: Sequence[Image.Image | UInt8]) -> Float32:
        """Pictures of any sizes, at least one -> (N, 3, H, W) float32, normalised."""
        way = fast_resize if self.resizing == "fast" else resize
        return normalise(np.stack([way(image, self.spec) for image in images]), self.spec)

    def embed(self, tensors: Float32) -> Float32:
        """(N, 3, H, W) float32, normalised -> (N, D) float32, unit length; see :meth:`Backend.embed`."""
        with self._engine_turn:
            return self.backend.embed(tensors)

    def classify(self, images: Sequence[Image.Image | UInt8 | Path | str]) -> list[Prediction]:
        """Classify pictures of any sizes in one batch.

        Args:
            images: Pillow images, (H, W, 3) uint8 RGB arrays, or image files.

        Returns:
            one prediction per picture, in order.

        Raises:
            ConfigError: an array of another shape or type.
            DataError: a file that cannot be read.
            BackendError: the engine failed.
        """
        if not images:
            return []
        opened = [load_image(Path(image)) if isinstance(image, (Path, str)) else image for image in images]
        for number, image in enumerate(opened):
            if isinstance(image, np.ndarray) and (image.dtype != np.uint8 or image.shape[2:] != (3,)):
                found = f"{image.shape} {image.dtype}"
                raise ConfigError([(f"images[{number}]", f"must be (H, W, 3) uint8 RGB, not {found}")])
        head = self.head
        probabilities = head.probabilities(self.embed(self.prepare(opened)))
        return [head.predict(row) for row in probabilities]

    def close(self) -> None:
        """Release the engine, once it has answered all who asked; one that hangs is left (``hangs``)."""
        self.hangs = not self._engine_turn.acquire(timeout=CLOSE_SECONDS)
        if not self.hangs:
            self.backend.close()
            self._engine_turn.release()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
