"""The properties of this machine that decide which engines run."""

from __future__ import annotations

import platform

from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.driver import Gpu, list_gpus
from rmatk_runtime.tensorrt.key import Machine
from rmatk_runtime.tensorrt.library import installed_versions


def this_machine() -> Machine:
    """Processor, first GPU and every TensorRT that loads here."""
    gpu = first_gpu()
    return Machine(
        machine=platform.machine(),
        gpu=None if gpu is None else gpu.name,
        compute_capability=None if gpu is None else gpu.compute_capability,
        tensorrt=installed_versions(),
    )


def first_gpu() -> Gpu | None:
    """The GPU that TensorRT uses, or None where the driver lists none (``rmatk doctor`` says why)."""
    try:
        return list_gpus()[0]
    except BackendError:
        return None
