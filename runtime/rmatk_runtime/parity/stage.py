"""What parity finds, stage by stage and node by node, and the one place where it becomes an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Literal

import msgspec

from rmatk_runtime.bundle.manifest import Precision, Tolerance
from rmatk_runtime.errors import ParityError
from rmatk_runtime.parity.statistics import AccuracyDifference

# Largest own deviation, ||difference|| / ||reference||, of a sound node, by the arithmetic it works in.
NODE_BOUNDS: dict[Precision, float] = {
    "fp32": 1e-4,  # roundings of 6e-8, approximated exp and erf: 6e-7 at most in rmatk-micro and ViT-B/16
    "fp16": 1e-2,  # roundings of 5e-4: 1e-3 at most, after softmax
    "int8": 0.3,  # steps of 1/127 of the largest value, which single outliers stretch: some hundredths
}
GraphSource = Literal["run", "bundle", "itself"]


class StageKind(Enum):
    """What a stage checks."""

    PREPROCESSING = "preprocessing"
    """The exact preprocessing; everything after it starts from its tensors."""
    TOKENIZER = "tokenizer"
    CLASS_MATRIX = "class matrix"
    """The rows of this stage are labels, not images."""
    TEXT = "text encoder"
    FOLD = "fold"
    """The folded arrays, run by PyTorch."""
    GRAPH = "graph"
    """An ONNX graph in ONNX Runtime."""
    ENGINE = "engine"
    """A TensorRT engine."""
    FAST_RESIZE = "fast resize"
    """The default graph after the fast resize; compared loosely, since it is not exact by design."""
    CLASSIFIER = "classifier"
    """A graph that gives probabilities."""


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose label changed.

    ``margin``: the reference's probability of its own label minus that of the candidate's label; ``truth``:
    the true label, where known.
    """

    image: str
    reference: str
    candidate: str
    margin: float
    truth: str | None = None


class StageResult(msgspec.Struct, frozen=True, kw_only=True):
    """One stage compared with the reference; truthy when it passed.

    Accuracies are shares in [0, 1]; they and their difference are None where the true labels are not known.
    ``kind``: None in engine sidecars written before it was recorded. ``reason``: what failed.
    ``expected_changes``: :func:`~rmatk_runtime.parity.statistics.expected_flip_rate`. ``worst``: names of the
    images with the lowest cosines, lowest first. ``spread``: a histogram of 1 - cosine in decades, [0.1, 1 or
    more) first, then [0.01, 0.1), and so on; the last of
    :data:`~rmatk_runtime.parity.compare.DECADES` counts all smaller values. ``largest_level``: of the fast
    resize, the largest difference of a pixel from the exact one, of 255.
    """

    stage: str
    kind: StageKind | None = None
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
    largest_level: int | None = None

    def __bool__(self) -> bool:
        return self.passed


def equality(stage: str, kind: StageKind, images: int, difference: str | None) -> StageResult:
    """The result of a stage whose values must be equal; ``difference`` names the first other one, or None."""
    return StageResult(
        stage=stage, kind=kind, images=images, passed=difference is None, reason=difference, tolerance=None
    )


def first_failure(stages: Iterable[StageResult]) -> StageResult | None:
    """The first stage that failed, or None."""
    return next((stage for stage in stages if not stage), None)


def require_passed(
    stages: Iterable[StageResult], explain: Callable[[StageResult], tuple[str, str]]
) -> tuple[StageResult, ...]:
    """Return the stages if all passed; those after a failed one are not evaluated.

    Args:
        stages: results in order; may be lazy.
        explain: the failed stage -> message and hint.

    Raises:
        ParityError: a stage failed.
    """
    passed = []
    for stage in stages:
        if not stage:
            raise ParityError(*explain(stage))
        passed.append(stage)
    return tuple(passed)


class NodeDeviation(msgspec.Struct, frozen=True, kw_only=True):
    """One node against the reference, worst image; relative to the reference's norm, None if not finite.

    ``node``, ``op``, ``place``: its name, its operator (or those that are judged as one), and block and part;
    ``precision``: the arithmetic it works in; ``own``: the deviation that it adds to that of its inputs;
    ``inputs``, ``output``: deviation of its worst input and of its output from a reference that was right
    from the start; ``cosine``: of the latter two outputs.
    """

    node: str
    op: str
    place: str
    precision: Precision
    own: float | None
    inputs: float | None
    output: float | None
    cosine: float | None

    @property
    def excess(self) -> float:
        """Own deviation as a multiple of what a sound node may have."""
        return math.inf if self.own is None else self.own / NODE_BOUNDS[self.precision]


class Bisection(msgspec.Struct, frozen=True, kw_only=True):
    """Where the graph of one stage diverges; falsy when no node does.

    ``reference``: whose float32 graph it was compared with, the run's, the bundle's or its own; ``images``:
    how many it was run on; ``departs``: the first node with more own deviation than its arithmetic can have;
    ``nodes``: all that were compared, in the graph's order; ``end``: deviation of the embeddings; ``fused``:
    the same without inner outputs, so that ONNX Runtime is free to fuse nodes.
    """

    stage: str
    reference: GraphSource
    images: int
    departs: NodeDeviation | None
    nodes: tuple[NodeDeviation, ...]
    end: float | None
    fused: float | None

    def __bool__(self) -> bool:
        return self.departs is not None

    def largest(self, count: int) -> list[NodeDeviation]:
        """The nodes whose own deviation exceeds their bound the most, worst first."""
        return sorted(self.nodes, key=lambda node: node.excess, reverse=True)[:count]
