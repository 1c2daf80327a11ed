"""What was written for a server, compared with the bundle's own answers in ONNX Runtime on the CPU.

The pictures are the golden set's; a bundle without one is checked on noise, which shows a wrongly assembled
graph just as well. Both sides get the same resized pixels, so the cost of a server's own resizing is not
included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rmatk_runtime.arrays import Array, Float32
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.golden import GoldenSet
from rmatk_runtime.bundle.manifest import Graph, Precision
from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend, create_session, run_session
from rmatk_runtime.parity.compare import Judge
from rmatk_runtime.parity.reference import Batch, GoldenReference
from rmatk_runtime.parity.stage import StageKind, StageResult
from rmatk_runtime.parity.walk import Candidate, check
from rmatk_runtime.pictures.preprocess import preprocess, tensor_digest

_NOISE = 8


class ServedGraph:
    """A graph file written for a server, as a parity candidate; ``feed`` gives its input."""

    def __init__(
        self, name: str, kind: StageKind, precision: Precision, path: Path, feed: Callable[[Batch], Array]
    ) -> None:
        self.name, self.kind, self.precision = name, kind, precision
        self._session, self._feed = create_session(path), feed

    def run(self, batch: Batch) -> Float32:
        """See :meth:`rmatk_runtime.parity.walk.Candidate.run`."""
        return run_session(self._session, self._feed(batch))


def check_served(bundle: Bundle, graph: Graph, candidates: Sequence[Candidate]) -> list[StageResult]:
    """Compare candidates with the answers of ``graph``.

    Raises:
        BackendError: ONNX Runtime does not run a graph.
        MissingExtraError: ONNX Runtime is not installed.
    """
    reference = GoldenReference(own_answers(bundle, graph), bundle.manifest.preprocess)
    _, *stages = check(reference, candidates, Judge.of(bundle))  # preprocessing is the same on both sides
    return stages


def own_answers(bundle: Bundle, graph: Graph) -> GoldenSet:
    """Pictures with the embeddings that a bundle's graph on ``images`` gives here, as for ``rmatk infer``."""
    golden, spec = bundle.golden(), bundle.manifest.preprocess
    if golden is not None:
        names, pictures = golden.names, golden.images
    else:
        shape = (_NOISE, spec.height, spec.width, 3)
        pictures = tuple(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        names = tuple(f"noise {number}" for number in range(_NOISE))
    tensors = [preprocess(picture, spec) for picture in pictures]
    with OnnxRuntimeBackend(bundle.file(graph.file), most=_NOISE) as backend:
        embeddings = backend.embed(np.stack(tensors))
    digests = tuple(map(tensor_digest, tensors))
    return GoldenSet(pictures, names, ("",) * len(names), digests, embeddings, source="photos")
