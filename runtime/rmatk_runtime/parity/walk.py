"""The one loop of parity: every candidate runs on the reference's images and is compared with it.

A new backend, server or preprocessing path is checked everywhere once it is a :class:`Candidate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import numpy as np
from PIL import Image

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Input, Precision, Tolerance
from rmatk_runtime.parity.compare import Expected, Judge, compare_embeddings, compare_probabilities
from rmatk_runtime.parity.reference import Batch, GoldenReference, Reference
from rmatk_runtime.parity.stage import Bisection, StageKind, StageResult, first_failure, require_passed
from rmatk_runtime.pictures.fast_resize import fast_resize
from rmatk_runtime.pictures.preprocess import PreprocessSpec, normalise
from rmatk_runtime.progress import OnProgress, no_progress


class Candidate(Protocol):
    """An implementation to check."""

    @property
    def name(self) -> str:
        """The name of its stage."""

    @property
    def kind(self) -> StageKind:
        """The kind of its stage."""

    @property
    def precision(self) -> Precision:
        """Whose tolerance applies."""

    def run(self, batch: Batch) -> Float32:
        """Embeddings (N, D) of a batch; probabilities (N, C) if ``kind`` is ``CLASSIFIER``.

        Most start from ``batch.tensors`` or ``batch.pixels``, the exact preprocessing. One with a
        preprocessing of its own starts from ``batch.picture(n)``.
        """


@dataclass(frozen=True)
class EncoderCandidate:
    """A loaded image encoder, on normalised ``images`` or on ``pixels``."""

    name: str
    precision: Precision
    backend: Backend
    input: Input = "images"
    kind: StageKind = StageKind.GRAPH

    @classmethod
    def of(
        cls, backend: Backend, precision: Precision, *batch: str, input: Input = "images", kind: StageKind
    ) -> EncoderCandidate:
        """Under a name that is unique in a bundle: ``onnxruntime cpu fp16 on pixels``."""
        name = " ".join((backend.name, precision, *batch, *(["on pixels"] if input == "pixels" else [])))
        return cls(name, precision, backend, input, kind)

    def run(self, batch: Batch) -> Float32:
        """See :meth:`Candidate.run`."""
        return self.backend.embed(batch.pixels if self.input == "pixels" else batch.tensors)


@dataclass(frozen=True)
class ParityReport:
    """What a check of a bundle found; truthy if every stage passed.

    ``bundle``: what was checked; ``stages`` in the data's order; ``basis``: what they were compared with, in
    words; ``picture``: an image by its name in the stages; ``bisections``: per graph the first node that
    diverges, if asked for.
    """

    bundle: Bundle
    stages: tuple[StageResult, ...]
    basis: str
    picture: Callable[[str], Image.Image | UInt8]
    bisections: tuple[Bisection, ...] = ()

    def __bool__(self) -> bool:
        return self.failed is None

    @property
    def failed(self) -> StageResult | None:
        """The first stage that failed."""
        return first_failure(self.stages)

    def require_passed(self) -> ParityReport:
        """This report, or ParityError if a stage failed."""
        require_passed(self.stages, self._explain)
        return self

    def _explain(self, failed: StageResult) -> tuple[str, str]:
        hint = "rmatk doctor shows the versions in use"
        if failed.kind is StageKind.PREPROCESSING:
            hint = f"later stages were skipped; export again, or use the Pillow version of the export; {hint}"
        elif failed.kind is StageKind.GRAPH and not self.bisections:
            hint = f"find the node where the graph diverges: --bisect; {hint}"
        return f"parity fails at the stage '{failed.stage}': {failed.reason}", hint


FAST_TOLERANCE = Tolerance(min_cosine=0.95, max_embedding_difference=0.2, min_agreement=0.85)


class FastResize:
    """An encoder on pictures resized the fast way; its stage reports, and fails only where most is lost.

    ``largest_level``: the largest difference from the exact resize so far, of 255.
    """

    name = "fast resize"
    kind = StageKind.FAST_RESIZE

    @classmethod
    def of(cls, candidates: Sequence[EncoderCandidate], bundle: Bundle) -> list[FastResize]:
        """Before the first graph that takes normalised images; empty where none does."""
        first = next((candidate for candidate in candidates if candidate.input == "images"), None)
        return [] if first is None else [cls(first, bundle.manifest.preprocess)]

    def __init__(self, encoder: EncoderCandidate, spec: PreprocessSpec) -> None:
        self._encoder, self._spec = encoder, spec
        self.precision: Precision = encoder.precision
        self.largest_level = 0

    def run(self, batch: Batch) -> Float32:
        """See :meth:`rmatk_runtime.parity.walk.Candidate.run`."""
        count = len(batch.pixels)
        pixels = np.stack([fast_resize(batch.picture(number), self._spec) for number in range(count)])
        apart = np.abs(pixels.astype(np.int16) - batch.pixels)
        self.largest_level = max(self.largest_level, int(apart.max()))
        return self._encoder.backend.embed(normalise(pixels, self._spec))


def check(
    reference: Reference,
    candidates: Sequence[Candidate],
    judge: Judge,
    *,
    batch: int = 8,
    on_progress: OnProgress = no_progress,
) -> list[StageResult]:
    """Compare every candidate with the reference; the results are in the data's order.

    The reference's own stages come first, preprocessing before all. If preprocessing fails, its result is the
    only one: every later stage starts from its tensors.

    Args:
        reference: images with the right embeddings.
        candidates: what to check.
        judge: labels, decision and tolerances.
        batch: images at once.
        on_progress: called with the number of images done.

    Raises:
        BackendError: a candidate does not run.
        DataError: a photo cannot be read.
    """
    before: list[StageResult] = []
    for stage in reference.checks():
        before.append(stage)
        if stage.kind is StageKind.PREPROCESSING and not stage:
            return before
    right: list[Float32] = []
    found: list[list[Float32]] = [[] for _ in candidates]
    names, done = reference.names, 0
    for part in reference.batches(batch):
        right.append(part.embeddings)
        for results, candidate in zip(found, candidates, strict=True):
            results.append(candidate.run(part))
        done += len(part.embeddings)
        on_progress("photos", done, len(names))
    expected = Expected(names, np.concatenate(right), reference.truth(judge.classes.names))
    return before + [
        _compare(candidate, expected, np.concatenate(results), judge)
        for candidate, results in zip(candidates, found, strict=True)
    ]


def check_golden(
    bundle: Bundle, candidates: Sequence[Candidate], *, on_progress: OnProgress = no_progress
) -> list[StageResult]:
    """:func:`check` against a bundle's golden set. Raises BundleError where it carries none."""
    return check(GoldenReference.of(bundle), candidates, Judge.of(bundle), on_progress=on_progress)


def _compare(candidate: Candidate, expected: Expected, found: Float32, judge: Judge) -> StageResult:
    if isinstance(candidate, FastResize):
        loose = replace(judge, tolerances={candidate.precision: FAST_TOLERANCE})
        result = compare_embeddings(
            candidate.name, candidate.kind, candidate.precision, expected, found, loose
        )
        return msgspec.structs.replace(result, largest_level=candidate.largest_level)
    if candidate.kind is StageKind.CLASSIFIER:
        return compare_probabilities(candidate.name, expected, found, judge)
    return compare_embeddings(candidate.name, candidate.kind, candidate.precision, expected, found, judge)
