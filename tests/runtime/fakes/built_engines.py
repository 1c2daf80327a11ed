"""Engines as if an Orin with TensorRT 10.3 had built them, for the fake runtime to load."""

from __future__ import annotations

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.tensorrt.key import BatchProfile
from rmatk_runtime.tensorrt.store import BuiltEngine, write_engine
from tests.runtime.fakes.engine_keys import key_of
from tests.runtime.fakes.tensorrt_runtime import fake_plan

VERSION = "10.3.0"
GPU = Gpu("Orin", "8.7", 1 << 33, True)


def add_engine(
    bundle: Bundle,
    *,
    gpu: str = GPU.name,
    version: str = VERSION,
    compatible: bool = False,
    batch: tuple[int, int, int] = (1, 1, 8),
    precision: Precision = "fp32",
) -> BuiltEngine:
    """Put an engine of one of the bundle's graphs into it; ``version`` is that of the plan alone."""
    file = bundle.graph(precision).file
    changes = {
        "gpu": gpu,
        "batch": BatchProfile(*batch),
        "precision": precision,
        "version_compatible": compatible,
    }
    plan = fake_plan(bundle.file(file), version=version, batch=batch, compatible=compatible)
    key = key_of(bundle, file, **changes)
    return write_engine(bundle, plan, key=key, built="2026-01-01T00:00:00+00:00", seconds=1, layers=1)
