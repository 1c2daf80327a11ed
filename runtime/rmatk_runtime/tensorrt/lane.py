"""One lane on the GPU: a stream with its own buffers, on which batches follow each other.

Everything is allocated once, for the largest batch. Each batch size has an execution context of its own,
whose shape never changes, because a change makes its captured CUDA graph invalid; the contexts of a lane
share their working memory, since a stream runs one at a time (NVIDIA/TensorRT #3798).
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any

from rmatk_runtime.arrays import Array, Float32
from rmatk_runtime.backend import DeviceTimes
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.cuda import Cuda, CudaGraph, DeviceBuffer, Event, PinnedBuffer, Stream
from rmatk_runtime.tensorrt.plan import Plan

log = logging.getLogger(__name__)

KEPT_SIZES = 8  # batch sizes that keep context and graph; the one unused longest goes first


class Lane:
    """Takes one batch at a time: :meth:`submit` returns at once, :meth:`result` waits.

    Args:
        cuda: where.
        plan: what is run; must outlive the lane.
        graphs: capture each batch size into a CUDA graph on its second use.

    Raises:
        BackendError: out of GPU memory.
    """

    def __init__(self, cuda: Cuda, plan: Plan, *, graphs: bool = True) -> None:
        self._plan = plan
        self._graphs = graphs and not plan.captures_itself
        self._sizes: dict[int, _FixedBatch] = {}
        self._rows = 0
        source, target, most = plan.input, plan.output, plan.most
        with ExitStack() as stack:
            self._stream = stack.enter_context(Stream(cuda))
            self._marks = [stack.enter_context(Event(cuda)) for _ in range(4)]
            self._input = stack.enter_context(DeviceBuffer(cuda, source.size(most)))
            self._output = stack.enter_context(DeviceBuffer(cuda, target.size(most)))
            self._scratch = stack.enter_context(DeviceBuffer(cuda, max(plan.scratch, 1)))
            self._host_input = stack.enter_context(PinnedBuffer(cuda, (most, *source.shape), source.dtype))
            self._host_output = stack.enter_context(PinnedBuffer(cuda, (most, *target.shape), target.dtype))
            self._resources = stack.pop_all()

    def submit(self, images: Array) -> None:
        """Start on a batch of at most ``plan.most`` images.

        Where the plan demands more, the rows behind are what an earlier batch left; nobody reads their
        results. A batch that failed half-way may still be copying: it is overtaken in order and discarded.

        Raises:
            BackendError: TensorRT or CUDA refused.
        """
        self._rows = rows = len(images)
        batch = max(rows, self._plan.least)
        self._host_input.array[:rows] = images
        start, uploaded, computed, done = self._marks
        self._stream.record(start)
        self._stream.upload(self._input, self._host_input, self._plan.input.size(batch))
        self._stream.record(uploaded)
        self._fixed(batch).run()
        self._stream.record(computed)
        self._stream.download(self._host_output, self._output, self._plan.output.size(rows))
        self._stream.record(done)

    def result(self) -> tuple[Float32, DeviceTimes]:
        """Embeddings (N, D) of the batch submitted last, valid until the next, and what it took.

        Raises:
            BackendError: the GPU failed at it.
        """
        self._stream.wait()
        start, uploaded, computed, done = self._marks
        times = DeviceTimes(
            uploaded.milliseconds_since(start),
            computed.milliseconds_since(uploaded),
            done.milliseconds_since(computed),
        )
        return self._host_output.array[: self._rows], times

    def _fixed(self, batch: int) -> _FixedBatch:
        fixed = self._sizes.pop(batch, None)
        if fixed is None:
            fixed = _FixedBatch(
                self._plan,
                batch,
                self._stream,
                (self._input, self._output, self._scratch),
                graphs=self._graphs,
            )
        self._sizes[batch] = fixed  # the last one is the one used last
        if len(self._sizes) > KEPT_SIZES:
            self._sizes.pop(next(iter(self._sizes))).close()
        return fixed

    def close(self) -> None:
        """Wait for what is under way, then release everything."""
        self._stream.settle()
        while self._sizes:
            self._sizes.popitem()[1].close()
        self._resources.close()


class _FixedBatch:
    """A context for one batch size, and its CUDA graph once there is one."""

    def __init__(
        self,
        plan: Plan,
        batch: int,
        stream: Stream,
        buffers: tuple[DeviceBuffer, DeviceBuffer, DeviceBuffer],
        *,
        graphs: bool,
    ) -> None:
        source, target, scratch = buffers
        self._plan, self._batch, self._stream = plan, batch, stream
        self._capture = graphs
        self._ran = False
        self._graph: CudaGraph | None = None
        self._context: Any = plan.context()
        try:
            self._context.set_device_memory(int(scratch), plan.scratch)
            if not (
                self._context.set_input_shape(plan.input.name, (batch, *plan.input.shape))
                and self._context.set_tensor_address(plan.input.name, int(source))
                and self._context.set_tensor_address(plan.output.name, int(target))
            ):
                raise plan.error(f"TensorRT refuses batches of {batch}")
        except BackendError:
            self.close()
            raise

    def run(self) -> None:
        """Give the stream one pass: the first time plainly, as TensorRT demands before a capture."""
        if self._ran and self._capture and self._graph is None:
            self._capture_graph()
        if self._graph is None:
            self._execute()
        else:
            self._stream.launch(self._graph)
        self._ran = True

    def _capture_graph(self) -> None:
        try:
            self._graph = self._stream.capture(self._execute)
        except BackendError as error:
            self._capture = False
            log.warning("batches of %d run without a CUDA graph: %s", self._batch, error.message)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise self._plan.error(f"TensorRT failed on a batch of {self._batch}")

    def close(self) -> None:
        """Release graph, then context."""
        if self._graph is not None:
            self._graph.close()
        self._graph = self._context = None
