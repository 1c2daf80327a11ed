"""ONNX Runtime as a Backend; the provider in use is checked and named.

ONNX Runtime lists GPU providers on machines without a GPU, and falls back to the CPU without an exception
when one cannot start (onnxruntime #25145, #9302): so the session itself is asked what it got.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle.manifest import data_file
from rmatk_runtime.errors import BackendError, MissingExtraError
from rmatk_runtime.onnx_runtime.providers import preload_libraries
from rmatk_runtime.platform import usable_cores

CPU = "CPUExecutionProvider"


def load_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        MissingExtraError: neither onnxruntime nor onnxruntime-gpu is installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("ONNX Runtime", "cpu") from None
    return onnxruntime


def _engine_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its own classes share no base but Exception."""
    state = load_onnxruntime().capi.onnxruntime_pybind11_state
    own = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*own, RuntimeError, ValueError, OSError)


def create_session(
    path: Path, provider: str = CPU, *, threads: int = 0, provider_options: Mapping[str, str] | None = None
) -> Any:
    """An ``InferenceSession`` on exactly ``provider``, every node of it.

    Raises:
        BackendError: the graph does not load, or the session was given another provider.
    """
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    # Left to itself, ONNX Runtime binds a worker to every core, also to those outside the process's CPU mask
    # (taskset, systemd's CPUAffinity, Docker's cpuset); workers of a stated number inherit the mask.
    options.intra_op_num_threads = threads or usable_cores()
    # Idle worker threads that spin take the cores from decoding and preprocessing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider != CPU:
        preload_libraries(runtime)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # This optimiser crashes the process on float16 vision transformers (1.24 to 1.32). All it could speed
    # up is the one convolution of a tower, so it is left out for every graph, not for those known to crash.
    disabled = ["NchwcTransformer"]
    try:
        session = runtime.InferenceSession(
            str(path),
            options,
            providers=[(provider, dict(provider_options or {}))],
            disabled_optimizers=disabled,
            enable_fallback=0,
        )
    except _engine_errors() as error:
        raise BackendError(
            f"ONNX Runtime cannot load {path} on {provider}: {error}", "rmatk doctor"
        ) from error
    granted = session.get_providers()
    if granted[0] != provider:
        raise BackendError(
            f"asked ONNX Runtime for {provider}, it granted {granted[0]}",
            "rmatk doctor says why; --backend cpu runs on the CPU",
        )
    return session


def run_session(session: Any, rows: npt.NDArray[Any], most: int | None = None) -> Float32:
    """Run a graph of one input (N, ...) and one output -> (N, D) float32; ``most`` rows at once, None: all.

    Raises:
        BackendError: the engine failed.
    """
    size = most or max(len(rows), 1)
    starts = range(0, max(len(rows), 1), size)
    parts = []
    for start in starts:
        (part,) = fetch(session, rows[start : start + size])
        parts.append(np.asarray(part, dtype=np.float32))
    return np.concatenate(parts)


def fetch(
    session: Any, batch: npt.NDArray[Any], outputs: Sequence[str] | None = None
) -> list[npt.NDArray[Any]]:
    """Run a graph of one input (N, ...) -> the values of ``outputs``, or of all.

    Raises:
        BackendError: the engine failed.
    """
    try:
        return list(session.run(outputs, {session.get_inputs()[0].name: batch}))
    except _engine_errors() as error:
        raise BackendError(f"ONNX Runtime failed on a batch of {len(batch)}: {error}") from error


class OnnxRuntimeBackend(Backend):
    """The image encoder on ONNX Runtime; ``path`` and ``provider`` say which graph runs on what.

    Args:
        path: an image graph of a bundle.
        provider: the execution provider; anything else granted is an error.
        threads: CPU threads for the engine, 0: one per core that this process may use.
        provider_options: of the provider.
        most: the largest batch that it takes; larger ones are split.
    """

    def __init__(
        self,
        path: Path,
        provider: str = CPU,
        *,
        threads: int = 0,
        provider_options: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> None:
        self.path = path
        self._session = create_session(path, provider, threads=threads, provider_options=provider_options)
        apart = path.with_name(data_file(path.name))
        self.size = sum(file.stat().st_size for file in (path, apart) if file.exists())
        self._most = most
        self._input = self._session.get_inputs()[0]
        granted = self._session.get_providers()[0]
        self.provider = granted
        self.name = f"onnxruntime {granted.removesuffix('ExecutionProvider').lower()}"

    def embed(self, images: Float32 | UInt8) -> Float32:
        """See :meth:`Backend.embed`."""
        expected = tuple(self._input.shape[1:])
        kind = "uint8" if self._input.type == "tensor(uint8)" else "float32"
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype != kind:
            raise BackendError(
                f"expected (N, {', '.join(map(str, expected))}) {kind}, got {images.shape} {images.dtype}"
            )
        return run_session(self._session, images, self._most)
