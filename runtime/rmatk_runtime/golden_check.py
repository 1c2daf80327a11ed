"""Parity on the device: preprocessing and every engine against the golden set, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.golden import GoldenSet
from rmatk_runtime.bundle.manifest import Input, Precision
from rmatk_runtime.errors import BundleError
from rmatk_runtime.parity.compare import PREPROCESSING, StageResult, compare_embeddings
from rmatk_runtime.pictures.preprocess import normalise, resize, tensor_digest
from rmatk_runtime.selection import engines_here, open_backend, open_engine, open_graph


@dataclass(frozen=True)
class Candidate:
    """An image encoder to check: its stage's ``name``, the ``precision`` whose tolerance holds for it, and
    what it takes as ``input``."""

    name: str
    precision: Precision
    backend: Backend
    input: Input = "images"

    def embed(self, pixels: UInt8, images: Float32) -> Float32:
        """(N, D) float32 of the same pictures as ``pixels`` (N, H, W, 3) and, normalised, as ``images``
        (N, 3, H, W)."""
        return self.backend.embed(pixels if self.input == "pixels" else images)


@contextmanager
def open_engines(bundle: Bundle, backend: str = "auto") -> Iterator[list[Candidate]]:
    """Every image encoder of a bundle, loaded, for as long as the context lasts.

    Of a bundle with engines that run here, ``auto`` gives ONNX Runtime on the CPU per precision and then each
    of these engines, ``tensorrt`` the engines alone: which of them answers depends on the batches that come.
    In all other cases it is one per precision, as :func:`~rmatk_runtime.selection.open_backend` finds it.
    Graphs on pixels, which servers run, are checked in ONNX Runtime on the CPU, by ``auto`` and ``cpu``.

    Raises:
        BackendError: see :func:`~rmatk_runtime.selection.open_backend`.
        MissingExtraError: ONNX Runtime is not installed, where it is needed.
    """
    built = engines_here(bundle) if backend in ("auto", "tensorrt") else []
    with ExitStack() as stack:
        engines = []
        if not built or backend == "auto":
            for graph in bundle.graphs():
                name = "cpu" if built else backend
                opened = stack.enter_context(open_backend(bundle, name, precision=graph.precision))
                engines.append(named(opened, graph.precision))
        if backend in ("auto", "cpu"):
            for graph in bundle.graphs("pixels"):
                opened = stack.enter_context(open_graph(bundle, graph))
                engines.append(named(opened, graph.precision, input=graph.input))
        for engine in built:
            key, opened = engine.key, stack.enter_context(open_engine(engine))
            engines.append(named(opened, key.precision, str(key.batch), input=key.input))
        yield engines


def named(backend: Backend, precision: Precision, *batch: str, input: Input = "images") -> Candidate:
    """``backend`` under a name that tells it from a bundle's others: ``onnxruntime cpu fp16 on pixels``."""
    name = " ".join((backend.name, precision, *batch, *(["on pixels"] if input == "pixels" else [])))
    return Candidate(name, precision, backend, input)


def golden_of(bundle: Bundle) -> GoldenSet:
    """The golden set that a bundle carries.

    Raises:
        BundleError: it carries none.
    """
    golden = bundle.golden()
    if golden is None:
        raise BundleError(
            f"{bundle.path} was exported without a golden set",
            "export with one (--golden rendered holds none of your photos), or check against the run: "
            "rmatk parity BUNDLE DATA --against RUN",
        )
    return golden


def check_golden(
    bundle: Bundle, engines: Sequence[Candidate], *, golden: GoldenSet | None = None, batch: int = 8
) -> list[StageResult]:
    """Check preprocessing, once, and then every engine, without torch.

    Where preprocessing gives other tensors, that stage is the only one: what follows starts from them.

    Args:
        bundle: its preprocessing, classes, decision and tolerances are those checked.
        engines: the bundle's image encoder on each engine to check.
        golden: pictures with what PyTorch made of them; None: those that the bundle carries.
        batch: pictures at once.

    Raises:
        BundleError: it carries none, and none were given.
    """
    golden = golden or golden_of(bundle)
    manifest, classes = bundle.manifest, bundle.classes()
    wrong: list[str] = []
    parts: list[list[Float32]] = [[] for _ in engines]
    for start in range(0, len(golden.images), batch):
        own = slice(start, start + batch)
        pixels = np.stack([resize(image, manifest.preprocess) for image in golden.images[own]])
        tensors = normalise(pixels, manifest.preprocess)
        wanted = zip(golden.names[own], golden.digests[own], tensors, strict=True)
        wrong += [name for name, digest, tensor in wanted if tensor_digest(tensor) != digest]
        if wrong:
            continue
        for part, engine in zip(parts, engines, strict=True):
            part.append(engine.embed(pixels, tensors))
    preprocessing = _preprocessing(wrong, len(golden.images))
    if not preprocessing:
        return [preprocessing]
    compare = partial(
        compare_embeddings,
        classes=classes,
        decision=manifest.decision,
        names=golden.names,
        truth=golden.truth(classes.names),
    )
    return [
        preprocessing,
        *(
            compare(
                engine.name,
                golden.embeddings,
                np.concatenate(part),
                tolerance=manifest.tolerances[engine.precision],
            )
            for part, engine in zip(parts, engines, strict=True)
        ),
    ]


def _preprocessing(wrong: Sequence[str], images: int) -> StageResult:
    """Did the golden pictures give, on this machine, the very tensors they gave at export?"""
    reason = None
    if wrong:
        reason = f"{len(wrong)} of {images} tensors differ from the export's, first {wrong[0]}"
    return StageResult(stage=PREPROCESSING, images=images, passed=not wrong, reason=reason, tolerance=None)
