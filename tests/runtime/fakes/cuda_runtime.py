"""``cuda.bindings.runtime`` without a GPU: host memory, streams that work when waited for, a record of calls.

A stream keeps what it was given until somebody synchronises, as a GPU that is always late. So a result read
too early is stale, an input overwritten too early is seen, and work captured into a graph is not done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

Work = tuple[Callable[[], None], tuple[int, ...]]


class Status(IntEnum):
    """The values that the tests meet, numbered as CUDA's own."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


# What failing calls return beside the status: as many times None as results.
_RESULTS = {
    **dict.fromkeys(("cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaEventCreate"), 1),
    **dict.fromkeys(("cudaStreamEndCapture", "cudaGraphInstantiate", "cudaEventElapsedTime"), 1),
    **dict.fromkeys(("cudaGetDeviceCount", "cudaDriverGetVersion", "cudaRuntimeGetVersion"), 1),
    "cudaMemGetInfo": 2,
}
_RELEASES = {
    "cudaFree": "device",
    "cudaFreeHost": "pinned",
    "cudaStreamDestroy": "stream",
    "cudaEventDestroy": "event",
    "cudaGraphDestroy": "graph",
    "cudaGraphExecDestroy": "executable",
}


class FakeCudaRuntime:
    """``calls`` holds every call in order; ``live`` what was acquired and not given back.

    ``fail`` maps a number of calls made so far to the error that the next one returns instead of working;
    ``lost``: from that many calls on, each one fails, as when the GPU fell off or a kernel went astray.
    """

    cudaHostAllocDefault = 0
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.live: dict[int, str] = {}
        self.sizes: dict[int, int] = {}
        self.fail: dict[int, Status] = {}
        self.lost: int | None = None
        self.memory: dict[int, Any] = {}
        self.queues: dict[int, list[Work]] = {}
        self.capturing: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.times: dict[int, float] = {}
        self.clock = 0.0
        self.driver = 13000
        self._handle = 1000

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        implementation: Callable[..., tuple[Any, ...]] = object.__getattribute__(self, f"_{name}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            status = self.fail.get(len(self.calls), Status.cudaSuccess)
            lost = self.lost is not None and len(self.calls) >= self.lost
            if lost and not name.startswith("cudaGetError"):
                status = Status.cudaErrorIllegalAddress
            self.calls.append((name, arguments))
            if name in _RELEASES:  # CUDA reports errors of earlier work here, and still releases
                self._give_back(name, *arguments)
            if status:
                if name == "cudaStreamEndCapture":  # the stream is as before
                    self.capturing.pop(int(arguments[0]), None)
                if name == "cudaStreamSynchronize":  # the work was done, and went wrong
                    self.queues[int(arguments[0])].clear()
                return (status, *[None] * _RESULTS.get(name, 0))
            return (Status.cudaSuccess, *implementation(*arguments))

        return call

    def names(self) -> list[str]:
        """The names of all calls, in order."""
        return [name for name, _ in self.calls]

    def enqueue(self, stream: int, work: Callable[[], None], *memory: int) -> None:
        """Work for a stream, on ``memory``: done later, or captured."""
        assert self.live.get(int(stream)) == "stream", f"no such stream: {stream}"
        captured = self.capturing.get(int(stream))
        (self.queues[int(stream)] if captured is None else captured).append((work, memory))

    def is_device(self, address: int, size: int) -> bool:
        """Whether ``size`` bytes from ``address`` lie inside one live device buffer."""
        return any(
            start <= address and address + size <= start + self.sizes[start]
            for start, kind in self.live.items()
            if kind == "device"
        )

    def new(self, kind: str) -> int:
        """A handle to something that must be given back."""
        self._handle += 1
        self.live[self._handle] = kind
        return self._handle

    def _give_back(self, name: str, handle: int) -> None:
        kind = self.live.pop(int(handle), None)
        assert kind == _RELEASES[name], f"{name} was given {handle}, which is {kind}"
        waiting = [memory for queue in self.queues.values() for _, memory in queue]
        assert not any(handle in memory for memory in waiting), (
            f"{kind} memory freed before its work was done"
        )

    def _allocate(self, size: int, kind: str) -> tuple[int]:
        assert size > 0
        memory = (ctypes.c_ubyte * (size + 256))()
        address = -(-ctypes.addressof(memory) // 256) * 256
        self.memory[address], self.live[address], self.sizes[address] = memory, kind, size
        return (address,)

    def _cudaMalloc(self, size: int) -> tuple[int]:
        return self._allocate(size, "device")

    def _cudaHostAlloc(self, size: int, flags: int) -> tuple[int]:
        return self._allocate(size, "pinned")

    def _cudaFree(self, devPtr: int) -> tuple[()]:
        return ()

    _cudaFreeHost = _cudaStreamDestroy = _cudaEventDestroy = _cudaFree
    _cudaGraphDestroy = _cudaGraphExecDestroy = _cudaFree

    def _cudaStreamCreateWithFlags(self, flags: int) -> tuple[int]:
        assert flags == self.cudaStreamNonBlocking
        stream = self.new("stream")
        self.queues[stream] = []
        return (stream,)

    def _cudaStreamSynchronize(self, stream: int) -> tuple[()]:
        assert int(stream) not in self.capturing, "a stream that captures cannot be waited for"
        queue = self.queues[int(stream)]
        while queue:
            queue.pop(0)[0]()
            self.clock += 1.0
        return ()

    def _cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: int, stream: int) -> tuple[()]:
        expected = ("pinned", "device") if kind == 1 else ("device", "pinned")
        assert (self.live.get(src), self.live.get(dst)) == expected, "copied between the wrong memories"
        assert 0 < count <= min(self.sizes[src], self.sizes[dst]), "copied beyond a buffer's end"
        self.enqueue(stream, lambda: ctypes.memmove(dst, src, count) and None, dst, src)
        return ()

    def _cudaEventCreate(self) -> tuple[int]:
        return (self.new("event"),)

    def _cudaEventRecord(self, event: int, stream: int) -> tuple[()]:
        assert self.live[int(event)] == "event" and int(stream) not in self.capturing
        self.times.pop(int(event), None)
        self.enqueue(stream, lambda: self.times.update({int(event): self.clock}))
        return ()

    def _cudaEventElapsedTime(self, start: int, end: int) -> tuple[float]:
        return (self.times[int(end)] - self.times[int(start)],)

    def _cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[()]:
        self.capturing[int(stream)] = []
        return ()

    def _cudaStreamEndCapture(self, stream: int) -> tuple[int]:
        graph = self.new("graph")
        self.graphs[graph] = self.capturing.pop(int(stream))
        return (graph,)

    def _cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int]:
        executable = self.new("executable")
        self.graphs[executable] = self.graphs[int(graph)]
        return (executable,)

    def _cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[()]:
        assert self.live[int(graphExec)] == "executable"
        for work, memory in self.graphs[int(graphExec)]:
            self.enqueue(stream, work, *memory)
        return ()

    def _cudaGetDeviceCount(self) -> tuple[int]:
        return (1,)

    def _cudaDriverGetVersion(self) -> tuple[int]:
        return (self.driver,)

    def _cudaRuntimeGetVersion(self) -> tuple[int]:
        return (13000,)

    def _cudaMemGetInfo(self) -> tuple[int, int]:
        used = sum(self.sizes[address] for address, kind in self.live.items() if kind == "device")
        return (2**30 - used, 2**30)

    def _cudaGetErrorName(self, error: Status) -> tuple[bytes]:
        return (error.name.encode(),)

    def _cudaGetErrorString(self, error: Status) -> tuple[bytes]:
        return (f"the text of {error.name}".encode(),)
