"""Inference engines behind one contract, and the choice among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rmatk_runtime.backends.base import Backend
from rmatk_runtime.errors import BackendError

if TYPE_CHECKING:
    from rmatk_runtime.bundle import Bundle

__all__ = ["BACKENDS", "Backend", "open_backend"]

BACKENDS = ("auto", "cpu", "cuda")


def open_backend(
    bundle: Bundle, name: str = "auto", *, precision: str | None = None, allow_cpu: bool = False
) -> Backend:
    """Load a bundle's image encoder.

    Args:
        bundle: a verified bundle.
        name: ``cpu`` or ``cuda`` (ONNX Runtime on exactly that), or ``auto``: the best that this
            installation offers.
        precision: which graph; None takes the first.
        allow_cpu: where the GPU was asked for and cannot start, run on the CPU instead of failing.

    Raises:
        BackendError: unknown name, or the engine cannot run here as asked.
    """
    from rmatk_runtime.backends.onnx_runtime import CPU, OnnxRuntimeBackend, load_onnxruntime

    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}; known are {', '.join(BACKENDS)}")
    path = bundle.file(bundle.graph(precision).file)
    cuda = "CUDAExecutionProvider"
    offered = load_onnxruntime().get_available_providers()
    if name == "cpu" or (name == "auto" and cuda not in offered):
        return OnnxRuntimeBackend(path, CPU)
    try:
        if cuda not in offered:
            raise BackendError("this ONNX Runtime has no CUDA provider", "pip install 'rmatk[gpu]'")
        return OnnxRuntimeBackend(path, cuda)
    except BackendError as error:
        if not allow_cpu:
            raise BackendError(error.message, f"{error.hint}; or accept the CPU with --allow-cpu") from error
    return OnnxRuntimeBackend(path, CPU)
