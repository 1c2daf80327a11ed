"""Parity of what was written for a server with the bundle's own answers, on ONNX Runtime's CPU.

The pictures are the golden set's; a bundle without one is checked on noise, which shows a graph put together
wrongly just as well. Both sides get the same resized pixels, so what a server's own resizing costs is not in
these figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.manifest import Graph
from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend, create_session, run_session
from rmatk_runtime.parity.compare import StageResult, compare_embeddings
from rmatk_runtime.pictures.preprocess import preprocess, resize

PROBABILITY_TOLERANCE = 1e-3  # float32 beside float64: 1e-5 of a logit, but for steps of int8 that tip over
_NOISE = 8


@dataclass(frozen=True)
class Expected:
    """``pixels`` (N, H, W, 3) uint8 with ``names``, and the bundle's own ``embeddings`` (N, D) of them."""

    names: tuple[str, ...]
    pixels: UInt8
    embeddings: Float32


def own_answers(bundle: Bundle, graph: Graph) -> Expected:
    """Run a bundle's graph on ``images``, as ``rmatk infer`` does.

    Raises:
        BackendError: ONNX Runtime does not run it.
        MissingExtraError: ONNX Runtime is not installed.
    """
    golden, spec = bundle.golden(), bundle.manifest.preprocess
    if golden is not None:
        names, pictures = tuple(golden.names), golden.images
    else:
        rng = np.random.default_rng(0)
        shape = (_NOISE, spec.height, spec.width, 3)
        pictures = tuple(rng.integers(0, 256, shape, dtype=np.uint8))
        names = tuple(f"noise {number}" for number in range(_NOISE))
    with OnnxRuntimeBackend(bundle.file(graph.file), most=8) as backend:
        embeddings = backend.embed(np.stack([preprocess(picture, spec) for picture in pictures]))
    return Expected(names, np.stack([resize(picture, spec) for picture in pictures]), embeddings)


def check_encoder(
    bundle: Bundle, graph: Graph, expected: Expected, name: str, embed: Callable[[UInt8], Float32]
) -> tuple[StageResult, Float32]:
    """An encoder on ``pixels`` (N, H, W, 3) uint8 beside the bundle's own, and its embeddings (N, D)."""
    found = embed(expected.pixels)
    stage = compare_embeddings(
        name,
        expected.embeddings,
        found,
        classes=bundle.classes(),
        decision=bundle.manifest.decision,
        tolerance=bundle.manifest.tolerances[graph.precision],
        names=expected.names,
    )
    return stage, found


def check_probabilities(
    bundle: Bundle, name: str, names: tuple[str, ...], embeddings: Float32, found: Float32
) -> StageResult:
    """``found`` (N, C) beside the answers that the runtime gives to ``embeddings`` (N, D)."""
    wanted = LabelHead(bundle.classes(), bundle.manifest.decision).probabilities(embeddings)
    if wanted.shape != found.shape:
        reason: str | None = f"gave shape {found.shape}, not {wanted.shape}"
        return StageResult(stage=name, images=len(names), passed=False, reason=reason, tolerance=None)
    apart = np.abs(wanted - found).max(axis=1)
    apart[~np.isfinite(apart)] = np.inf
    worst = int(apart.argmax())
    reason = None
    if apart[worst] > PROBABILITY_TOLERANCE:
        most = f"{apart[worst]:.2e}, more than {PROBABILITY_TOLERANCE:.0e}"
        reason = f"a probability of {names[worst]} differs by {most}"
    agreement = float((wanted.argmax(axis=1) == found.argmax(axis=1)).mean())
    return StageResult(
        stage=name,
        images=len(names),
        passed=reason is None,
        reason=reason,
        tolerance=None,
        agreement=agreement,
        worst=(names[worst],),
    )


def run_graph(path: Path) -> Callable[[UInt8 | Float32], Float32]:
    """A graph file of one input and one output on ONNX Runtime's CPU, eight rows at a time."""
    return partial(run_session, create_session(path), most=8)
