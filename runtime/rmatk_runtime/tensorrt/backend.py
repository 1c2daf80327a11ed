"""TensorRT as a Backend: a plan, one or two lanes on the GPU, NumPy in and out, no torch."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator

import numpy as np

from rmatk_runtime.arrays import Array, Float32, UInt8
from rmatk_runtime.backend import Backend, DeviceTimes
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.tensorrt.kernels import Kernels, kernels_of
from rmatk_runtime.tensorrt.lane import Lane
from rmatk_runtime.tensorrt.library import TensorRt, load_tensorrt
from rmatk_runtime.tensorrt.plan import Plan
from rmatk_runtime.tensorrt.store import BuiltEngine

log = logging.getLogger(__name__)

CUDA_GRAPHS = True  # replay a captured batch size with one launch; False to see whether a graph is at fault


class TensorRtBackend(Backend):
    """The image encoder as a TensorRT engine.

    Args:
        trt: the TensorRT that the plan was built with.
        plan: the plan's bytes, verified.
        where: the plan's name in errors.
        cuda: the GPU.
        graphs: capture and replay CUDA graphs.
        host_code: the plan is version-compatible and carries code for this machine's processor.
        kernels: those kept for TensorRT for RTX.

    Raises:
        BackendError: the plan does not load here, or the GPU has too little memory.
    """

    def __init__(
        self,
        trt: TensorRt,
        plan: bytes,
        where: str,
        cuda: Cuda,
        *,
        graphs: bool = CUDA_GRAPHS,
        host_code: bool = False,
        kernels: Kernels | None = None,
    ) -> None:
        self.name = trt.title
        self.size, self.times = len(plan), DeviceTimes()
        self._cuda, self._graphs = cuda, graphs
        self._lanes: list[Lane] = []
        self._overlap = True
        self._plan = Plan(trt, plan, where, host_code=host_code, kernels=kernels)
        try:
            self._add_lane()
        except BackendError:
            self.close()
            raise

    @classmethod
    def open(cls, engine: BuiltEngine) -> TensorRtBackend:
        """Load an engine of a bundle; :func:`~rmatk_runtime.tensorrt.store.find_engine` found it to fit.

        Raises:
            MissingExtraError: TensorRT or cuda-bindings is not installed.
            BackendError: no GPU, or the engine does not load.
        """
        trt, cuda = load_tensorrt(engine.key.flavour), Cuda.load()
        return cls(
            trt,
            engine.read(),
            str(engine.path),
            cuda,
            host_code=engine.key.version_compatible,
            kernels=kernels_of(engine),
        )

    @property
    def batches(self) -> tuple[int, int]:
        """The least and the largest batch that runs as it is; smaller ones are filled up, larger split."""
        return self._plan.least, self._plan.most

    def embed(self, images: Float32 | UInt8) -> Float32:
        """See :meth:`Backend.embed`.

        More than the largest batch is split, and the parts alternate between two lanes: while one computes,
        the other copies.
        """
        self._check(images)
        results = np.empty((len(images), *self._plan.output.shape), np.float32)
        self.times = DeviceTimes()
        row = 0
        for embeddings, times in self._run(images):
            results[row : row + len(embeddings)] = embeddings
            row += len(embeddings)
            self.times += times
        self._plan.keep_kernels()
        return results

    def _run(self, images: Array) -> Iterator[tuple[Float32, DeviceTimes]]:
        """The parts' results in order, each valid until the next is asked for."""
        starts = range(0, len(images), self._plan.most)
        if len(starts) > 1 and len(self._lanes) == 1 and self._overlap:
            self._try_second_lane()
        busy: deque[Lane] = deque()
        for number, start in enumerate(starts):
            if len(busy) == len(self._lanes):
                yield busy.popleft().result()
            lane = self._lanes[number % len(self._lanes)]
            lane.submit(images[start : start + self._plan.most])
            busy.append(lane)
        while busy:
            yield busy.popleft().result()

    def _check(self, images: Array) -> None:
        wanted = self._plan.input
        if not self._lanes:
            raise BackendError("the engine was closed")
        if len(images) and images.shape[1:] == wanted.shape and images.dtype == wanted.dtype:
            return
        shape = ", ".join(map(str, wanted.shape))
        raise BackendError(f"expected (N, {shape}) {wanted.dtype}, got {images.shape} {images.dtype}")

    def _add_lane(self) -> None:
        self._lanes.append(Lane(self._cuda, self._plan, graphs=self._graphs))

    def _try_second_lane(self) -> None:
        try:
            self._add_lane()
        except BackendError as error:
            self._overlap = False
            log.warning("large batches run one part after the other: %s", error.message)

    def close(self) -> None:
        """Release lanes, engine and runtime, in this order."""
        while self._lanes:
            self._lanes.pop().close()
        self._plan.close()
