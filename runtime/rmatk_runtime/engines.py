"""Building a bundle's engines and checking each against the golden set, on the GPU that will run it.

An engine that fails parity is deleted at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Input, Precision
from rmatk_runtime.errors import BackendError
from rmatk_runtime.parity.stage import StageKind, StageResult, first_failure, require_passed
from rmatk_runtime.parity.walk import check_golden
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.selection import engine_candidate, open_engine
from rmatk_runtime.tensorrt import machine
from rmatk_runtime.tensorrt.build import build_engine
from rmatk_runtime.tensorrt.key import Machine, differences
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.options import BuildOptions
from rmatk_runtime.tensorrt.store import BuiltEngine, delete_engine, write_sidecar
from rmatk_runtime.tensorrt.versions import known_bad

log = logging.getLogger(__name__)


def build_engines(
    bundle: Bundle,
    trt: TensorRt,
    options: BuildOptions,
    *,
    precisions: Sequence[Precision] = (),
    pixels: bool = False,
    on_progress: OnProgress = no_progress,
) -> Iterator[BuiltEngine]:
    """Build one engine per precision, two with ``pixels``, and yield each once it is checked.

    An engine that cannot be checked here (:func:`why_unchecked`) is yielded unchecked.

    Args:
        bundle: its graphs are built, and the engines are put into it.
        trt: the TensorRT to build with.
        options: how to build.
        precisions: whose graphs; none: the bundle's first.
        pixels: also from the graphs that take pixels.
        on_progress: called with the percentage of each build.

    Raises:
        BundleError: no such graph.
        BackendError: an engine cannot be built or does not run.
        ParityError: an engine fails parity; the remaining ones are not built.
    """
    here = machine.this_machine()
    kinds: tuple[Input, ...] = ("images", "pixels") if pixels else ("images",)
    graphs = [bundle.graph(name, kind) for name in precisions or (None,) for kind in kinds]
    if (row := known_bad(trt.version, here.compute_capability)) is not None:
        log.warning("%s", row.warning(trt.version))
    for graph in graphs:
        engine = build_engine(bundle, graph, trt, options, gpu=machine.first_gpu(), on_progress=on_progress)
        yield engine if why_unchecked(bundle, engine, here) else check_engine(bundle, engine)


def why_unchecked(bundle: Bundle, engine: BuiltEngine, here: Machine) -> str | None:
    """Why an engine cannot be checked on this machine, or None where it can."""
    if reasons := differences(engine.key, here):
        return "; ".join(reasons)
    return None if bundle.manifest.golden else "the bundle was exported without a golden set"


def check_engine(
    bundle: Bundle, engine: BuiltEngine, open_backend: Callable[[BuiltEngine], Backend] = open_engine
) -> BuiltEngine:
    """Run the golden set through an engine and record the result in its sidecar.

    Raises:
        ParityError: its results are not PyTorch's, and it was deleted; or preprocessing gives other tensors
            here than at export, and it is kept, unchecked.
        BackendError: it does not load or run; it was deleted.
    """
    try:
        with open_backend(engine) as backend:
            candidate = engine_candidate(engine, backend, batch=False)
            stages = check_golden(bundle, [candidate])
    except BackendError:
        delete_engine(engine)
        raise
    failed = first_failure(stages)
    if failed is not None and failed.kind is not StageKind.PREPROCESSING:
        delete_engine(engine)
    passed = require_passed(stages, partial(_explain, engine))
    return write_sidecar(BuiltEngine(engine.path, msgspec.structs.replace(engine.sidecar, parity=passed)))


def _explain(engine: BuiltEngine, failed: StageResult) -> tuple[str, str]:
    name, what = engine.path.name, f"{failed.stage}: {failed.reason}"
    if failed.kind is StageKind.PREPROCESSING:
        return (
            f"{name} was built and not checked: {what}",
            "export again, or use the Pillow version of the export; rmatk doctor shows the versions in use",
        )
    row = known_bad(engine.key.tensorrt, *engine.key.compute_capabilities[:1])
    return (
        f"{name} fails parity and was deleted: {what}",
        row.cure if row else "rmatk doctor; another precision may pass: --precision fp32",
    )
