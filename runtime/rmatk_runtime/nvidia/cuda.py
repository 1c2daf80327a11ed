"""The CUDA runtime calls that engines need, through cuda-bindings, each one checked.

Memory, streams, events and graphs are context managers that give back what they hold exactly once, on
success as on failure. A device needs nothing else: no torch, no pycuda, no cupy.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from rmatk_runtime.arrays import Array
from rmatk_runtime.errors import BackendError, MissingExtraError
from rmatk_runtime.nvidia.driver import driver_version

log = logging.getLogger(__name__)

Self = TypeVar("Self", bound="Resource")

OUT_OF_MEMORY = (
    "close what else uses the GPU, or build for smaller batches: rmatk export BUNDLE --trt --batch 1:1:4"
)


class Cuda:
    """The runtime of the current device (``CUDA_VISIBLE_DEVICES`` chooses it)."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self._failures: set[str] = set()  # CUDA's names of the errors so far

    @classmethod
    def load(cls) -> Cuda:
        """Import cuda-bindings and see that there is a GPU.

        Raises:
            MissingExtraError: cuda-bindings is not installed.
            BackendError: no driver, a driver too old for these bindings, or no GPU.
        """
        try:
            from cuda.bindings import runtime
        except ModuleNotFoundError:
            raise MissingExtraError("cuda-bindings", "trt", _fitting_bindings()) from None
        except ImportError as error:
            raise BackendError(f"cuda-bindings does not load: {error}", _fitting_bindings()) from error
        cuda = cls(runtime)
        try:
            cuda.call("cudaGetDeviceCount")
        except RuntimeError as error:  # cuda-bindings before 12.9, where there is no libcuda
            raise BackendError(f"no NVIDIA driver is running here: {error}", "rmatk doctor") from error
        return cuda

    def call(self, name: str, *arguments: Any) -> Any:
        """One call by its C name; its result, or a tuple of several, or None.

        Raises:
            BackendError: CUDA's own name of the error, and the call.
        """
        status, *values = getattr(self.runtime, name)(*arguments)
        if int(status):
            raise self._error(name, status)
        return values[0] if len(values) == 1 else tuple(values) or None

    def attempt(self, name: str, *arguments: Any) -> None:
        """One call on the way out: its failure cannot be helped, and would hide an error that came before.

        A lost GPU answers every call alike, so the log has a warning only for what CUDA had not said before.
        """
        before = len(self._failures)
        try:
            self.call(name, *arguments)
        except BackendError as error:
            known = len(self._failures) == before
            log.log(logging.DEBUG if known else logging.WARNING, "%s", error.message)

    def _error(self, call: str, status: Any) -> BackendError:
        error = self.runtime.cudaGetErrorName(status)[1].decode()
        self._failures.add(error)
        text = self.runtime.cudaGetErrorString(status)[1].decode()
        if error == "cudaErrorInsufficientDriver":
            return self._driver_error()
        hint = OUT_OF_MEMORY if error == "cudaErrorMemoryAllocation" else "rmatk doctor"
        return BackendError(f"CUDA: {call} failed: {text} ({error})", hint)

    def _driver_error(self) -> BackendError:
        """CUDA gives one code for a driver that is absent and for one that is too old."""
        driver, bindings = (
            getattr(self.runtime, name)()[1] for name in ("cudaDriverGetVersion", "cudaRuntimeGetVersion")
        )
        if not driver:
            return BackendError("no NVIDIA driver is running here", "rmatk doctor")
        return BackendError(
            f"the NVIDIA driver is for CUDA {_version(driver)}, cuda-bindings for {_version(bindings)}",
            f"pip install 'cuda-bindings=={driver // 1000}.*', or update the driver",
        )


def _fitting_bindings() -> str:
    """How the bindings for this machine's driver are installed; the extra would bring TensorRT too."""
    try:
        major = driver_version().split(".")[0]
    except BackendError:
        return "pip install cuda-bindings"
    return f"pip install 'cuda-bindings=={major}.*'"


def _version(number: int) -> str:
    """12060 -> ``12.6``."""
    return f"{number // 1000}.{number % 1000 // 10}"


class Resource:
    """What one call of CUDA gave and another takes back; a failure to give back is logged, not raised."""

    def __init__(self, cuda: Cuda, handle: Any, release: str) -> None:
        self.cuda = cuda
        self._handle = handle
        self._release = release

    @property
    def handle(self) -> Any:
        """What CUDA calls take."""
        if self._handle is None:
            raise BackendError(f"used after {self._release}")
        return self._handle

    def __int__(self) -> int:
        return int(self.handle)

    def close(self) -> None:
        """Give back; calling it twice does no harm."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self.cuda.attempt(self._release, handle)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DeviceBuffer(Resource):
    """``size`` bytes of GPU memory, aligned to 256 bytes."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        super().__init__(cuda, cuda.call("cudaMalloc", size), "cudaFree")


class PinnedBuffer(Resource):
    """Host memory that the GPU copies from and to by itself, as the NumPy array ``array``.

    The array must not be used after ``close``.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        size = int(np.prod(shape)) * dtype.itemsize
        super().__init__(
            cuda, cuda.call("cudaHostAlloc", size, cuda.runtime.cudaHostAllocDefault), "cudaFreeHost"
        )
        memory = (ctypes.c_ubyte * size).from_address(int(self))
        self.array: Array = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)


class Event(Resource):
    """A point in a stream's work, with its time."""

    def __init__(self, cuda: Cuda) -> None:
        super().__init__(cuda, cuda.call("cudaEventCreate"), "cudaEventDestroy")

    def milliseconds_since(self, start: Event) -> float:
        """Time on the GPU from ``start`` until here; both must have been reached."""
        return float(self.cuda.call("cudaEventElapsedTime", start.handle, self.handle))


class CudaGraph(Resource):
    """Work of a stream, launched again and again at the cost of one launch; see :meth:`Stream.capture`."""

    def __init__(self, cuda: Cuda, captured: Resource) -> None:
        super().__init__(cuda, cuda.call("cudaGraphInstantiate", captured.handle, 0), "cudaGraphExecDestroy")


class Stream(Resource):
    """Work that the GPU does in order, beside the work of other streams."""

    def __init__(self, cuda: Cuda) -> None:
        flags = cuda.runtime.cudaStreamNonBlocking
        super().__init__(cuda, cuda.call("cudaStreamCreateWithFlags", flags), "cudaStreamDestroy")

    def upload(self, target: DeviceBuffer, source: PinnedBuffer, size: int) -> None:
        """Copy ``size`` bytes to the GPU; ``source`` must stay as it is until they are there."""
        kind = self.cuda.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.cuda.call("cudaMemcpyAsync", target.handle, source.handle, size, kind, self.handle)

    def download(self, target: PinnedBuffer, source: DeviceBuffer, size: int) -> None:
        """Copy ``size`` bytes to the host; ``target`` holds them after :meth:`wait`."""
        kind = self.cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.cuda.call("cudaMemcpyAsync", target.handle, source.handle, size, kind, self.handle)

    def record(self, event: Event) -> None:
        """Set ``event`` behind all work given so far."""
        self.cuda.call("cudaEventRecord", event.handle, self.handle)

    def launch(self, graph: CudaGraph) -> None:
        """Run a captured graph."""
        self.cuda.call("cudaGraphLaunch", graph.handle, self.handle)

    def wait(self) -> None:
        """Return when all work given so far is done; errors of that work show here."""
        self.cuda.call("cudaStreamSynchronize", self.handle)

    def settle(self) -> None:
        """:meth:`wait` before everything is released; a GPU that gave up is logged, not raised."""
        self.cuda.attempt("cudaStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """Note down what ``work`` gives this stream, without doing it; the stream then works as before.

        Raises:
            BackendError: ``work`` failed, or did something that cannot be captured.
        """
        mode = self.cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.cuda.call("cudaStreamBeginCapture", self.handle, mode)
        try:
            work()
        except BaseException:
            with suppress(BackendError), self._end_capture():
                pass
            raise
        with self._end_capture() as captured:
            return CudaGraph(self.cuda, captured)

    def _end_capture(self) -> Resource:
        return Resource(self.cuda, self.cuda.call("cudaStreamEndCapture", self.handle), "cudaGraphDestroy")
