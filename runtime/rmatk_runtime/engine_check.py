"""A new engine against PyTorch, on the GPU that will run it; one that fails does not stay."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError, ParityError
from rmatk_runtime.golden_check import check_golden, named
from rmatk_runtime.parity.compare import PREPROCESSING, StageResult
from rmatk_runtime.tensorrt.key import EngineKey, Machine, differences
from rmatk_runtime.tensorrt.store import BuiltEngine, delete_engine, write_sidecar
from rmatk_runtime.tensorrt.versions import known_bad


def why_unchecked(bundle: Bundle, engine: BuiltEngine, here: Machine) -> str | None:
    """What keeps an engine from being checked on this machine, or None."""
    if reasons := differences(engine.key, here):
        return "; ".join(reasons)
    return None if bundle.manifest.golden else "the bundle was exported without a golden set"


def check_engine(
    bundle: Bundle, engine: BuiltEngine, open_backend: Callable[[BuiltEngine], Backend]
) -> BuiltEngine:
    """Run the golden set through an engine and keep the result in its sidecar.

    Raises:
        ParityError: its results are not PyTorch's; it was deleted. Or preprocessing gives other tensors here
            than at export, so that it could not be checked; it is left, unchecked.
        BackendError: it does not load or run; it was deleted.
    """
    try:
        with open_backend(engine) as backend:
            stages = _check(bundle, engine.key, backend)
    except BackendError:
        delete_engine(engine)
        raise
    failed = next((stage for stage in stages if not stage), None)
    if failed is not None and failed.stage == PREPROCESSING:
        raise ParityError(
            f"{engine.path.name} was built and not checked: {failed.stage}: {failed.reason}",
            "export again, or use the Pillow of the export; rmatk doctor shows the versions in use",
        )
    if failed is not None:
        delete_engine(engine)
        row = known_bad(engine.key.tensorrt, *engine.key.compute_capabilities[:1])
        raise ParityError(
            f"{engine.path.name} fails parity and was deleted: {failed.stage}: {failed.reason}",
            row.cure if row else "rmatk doctor; another precision may hold: --precision fp32",
        )
    return write_sidecar(BuiltEngine(engine.path, msgspec.structs.replace(engine.sidecar, parity=stages)))


def _check(bundle: Bundle, key: EngineKey, backend: Backend) -> tuple[StageResult, ...]:
    return tuple(check_golden(bundle, [named(backend, key.precision, input=key.input)]))
