"""Building a bundle's engines and checking each against the golden set, on the GPU that will run it.

An engine that fails parity is deleted at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Input, Precision
from rmatk_runtime.errors import BackendError
from rmatk_runtime.parity.stage import StageKind, StageResult, first_failure, require_passed
from rmatk_runtime.parity.walk import check_golden
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.selection import engine_candidate, open_engine
from rmatk_runtime.tensorrt import library, machine
from rmatk_runtime.tensorrt.build import build_engine
from rmatk_runtime.tensorrt.key import Flavour, Machine, differences
from rmatk_runtime.tensorrt.options import BuildOptions, check_options
from rmatk_runtime.tensorrt.store import BuiltEngine, delete_engine, write_sidecar
from rmatk_runtime.tensorrt.versions import known_bad

log = logging.getLogger(__name__)


def build_engines(
    bundle: Bundle | Path | str,
    options: BuildOptions | None = None,
    *,
    precisions: Sequence[Precision] = (),
    pixels: bool = False,
    flavour: Flavour | Literal["auto"] = "auto",
    on_progress: OnProgress = no_progress,
    on_built: Callable[[BuiltEngine], None] = lambda engine: None,
) -> list[BuiltEngine]:
    """Build TensorRT engines into a bundle, on the machine that will run them, and check each.

    >>> engines = rmatk.build_engines("bundle", rmatk.BuildOptions(workspace=512))  # doctest: +SKIP

    ``engine.sidecar.parity`` is None where an engine cannot be checked here (:func:`why_unchecked`).

    Args:
        bundle: a bundle, or its folder.
        options: how to build.
        precisions: of the graphs to build; none: the bundle's first.
        pixels: also build the graphs that take uint8 pixels.
        flavour: TensorRT, TensorRT for RTX, or whichever is installed.
        on_progress: called with the percentage of each build.
        on_built: called with each engine that was built and not refused.

    Raises:
        MissingExtraError: TensorRT is not installed.
        ConfigError: ``options`` that this TensorRT does not have.
        BundleError: not a sound bundle, or no such graph in it.
        BackendError: an engine cannot be built or does not run.
        ParityError: an engine does not give what PyTorch gave; it was deleted, and later ones are not built.
    """
    options, trt = options or BuildOptions(), library.load_tensorrt(flavour)
    gpu, here = machine.first_gpu(), machine.this_machine()
    check_options(trt, options, gpu)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
    kinds: tuple[Input, ...] = ("images", "pixels") if pixels else ("images",)
    graphs = [opened.graph(name, kind) for name in precisions or (None,) for kind in kinds]
    if (row := known_bad(trt.version, here.compute_capability)) is not None:
        log.warning("%s", row.warning(trt.version))
    built = []
    for graph in graphs:
        engine = build_engine(opened, graph, trt, options, gpu=gpu, on_progress=on_progress)
        if why_unchecked(opened, engine, here) is None:
            engine = check_engine(opened, engine)
        built.append(engine)
        on_built(engine)
    return built


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
