"""A TensorRT plan ready to run: inputs, outputs, and execution contexts.

The one place where the versions from 10.3 to 11 and TensorRT for RTX differ at run time; only calls that all
of them have are used, and what one of them lacks is looked up by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.cuda import OUT_OF_MEMORY
from rmatk_runtime.tensorrt.kernels import Kernels
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.messages import Messages, means_memory

_REBUILD = "build it again on this machine: rmatk export BUNDLE --trt"


@dataclass(frozen=True)
class Tensor:
    """An input or output; ``shape`` without the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def size(self, batch: int) -> int:
        """Bytes of so many rows."""
        return batch * int(np.prod(self.shape)) * self.dtype.itemsize


class Plan:
    """A deserialised plan with one input, one output and one profile of batch sizes.

    Args:
        trt: the TensorRT that it was built with.
        data: the plan's bytes, already verified: a plan is code.
        where: its name in errors.
        host_code: the plan is version-compatible: it carries a runtime of its own, which must be let in.
        kernels: for TensorRT for RTX, what it made of this plan before.

    Raises:
        BackendError: this TensorRT is too old to run it, or does not accept it.
    """

    def __init__(
        self,
        trt: TensorRt,
        data: bytes,
        where: str,
        *,
        host_code: bool = False,
        kernels: Kernels | None = None,
    ) -> None:
        self._trt = trt
        self._kernels = kernels
        self._messages = Messages(trt)
        self._shared_memory = trt.member("ExecutionContextAllocationStrategy", "USER_MANAGED")
        if self._shared_memory is None:
            raise BackendError(
                f"{trt.title} is too old to run engines with; 10.3 is the first that can",
                "on a Jetson, update to JetPack 6.1 or newer",
            )
        # TensorRT for RTX swaps kernels while it runs, so only itself knows when to capture.
        self.captures_itself = trt.member("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE") is not None
        self._runtime: Any = None
        self._engine: Any = None
        self._how: Any = self._shared_memory
        try:
            self._runtime = self._load_runtime()
            if host_code:
                self._runtime.engine_host_code_allowed = True
            self._engine = self._runtime.deserialize_cuda_engine(data)
            if self._engine is None:
                raise self._load_error(where, data)
            self.input, self.output = self._tensors(where)
            shapes = self._engine.get_tensor_profile_shape(self.input.name, 0)
            self.least, _, self.most = (int(shape[0]) for shape in shapes)
            self.scratch = int(self._engine.get_device_memory_size_for_profile_v2(0))
            if self.captures_itself:
                self._how = self._runtime_config()
        except BackendError:
            self.close()
            raise

    def _load_runtime(self) -> Any:
        try:
            return self._trt.module.Runtime(self._messages.log)
        except TypeError as error:  # what the bindings make of a null pointer
            raise self.error(f"{self._trt.title} does not start", "rmatk doctor") from error

    def context(self) -> Any:
        """A new execution context; its working memory (``scratch`` bytes) is still to be set.

        Raises:
            BackendError: it cannot be made, mostly because of too little memory.
        """
        context = self._engine.create_execution_context(self._how)
        if context is None:
            raise self.error("TensorRT makes no execution context", OUT_OF_MEMORY)
        if self._kernels is not None:
            self._kernels.note_context()
        return context

    def keep_kernels(self) -> None:
        """Write down what TensorRT for RTX made for contexts that have run by now."""
        if self._kernels is not None:
            self._kernels.save()

    def _runtime_config(self) -> Any:
        """How contexts are made by TensorRT for RTX: memory from us, its own graphs, kernels kept."""
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._shared_memory)
        config.cuda_graph_strategy = self._trt.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # Lazily made kernels would take over after parity was checked on others.
        strategies = self._trt.module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        if self._kernels is not None:
            self._kernels.attach(config)
        return config

    def _load_error(self, where: str, data: bytes) -> BackendError:
        """Why TensorRT does not load a plan: too little memory, or because it is not for this machine."""
        error = self.error(f"{self._trt.title} does not load {where}", _REBUILD)
        verdict = self._verdict(data)
        message = f"{error.message} ({', '.join(verdict)})" if verdict else error.message
        if "OLD_CUDA_DRIVER" in verdict:
            return BackendError(message, "update NVIDIA's driver")
        memory = "INSUFFICIENT_GPU_MEMORY" in verdict or means_memory(message)
        return BackendError(message, OUT_OF_MEMORY if memory else _REBUILD)

    def _verdict(self, data: bytes) -> list[str]:
        """What TensorRT for RTX, which alone can tell, holds against a plan here, in its own words."""
        judge = getattr(self._runtime, "get_engine_validity", None)
        if judge is None:
            return []
        _, bits = judge(data)
        known = self._trt.module.EngineInvalidityDiagnostics.__members__
        return [name for name, bit in known.items() if bits & int(bit)]

    def error(self, message: str, hint: str | None = None) -> BackendError:
        """``message`` with all that TensorRT has said: the reason often comes first, not last."""
        said = "; ".join(self._messages.errors)
        self._messages.errors.clear()
        return BackendError(f"{message}: {said}" if said else message, hint)

    def close(self) -> None:
        """Let TensorRT release the engine; every context must be gone before."""
        self._how = None
        if self._kernels is not None:
            self._kernels.close()
        self._engine = None
        self._runtime = None

    def _tensors(self, where: str) -> tuple[Tensor, Tensor]:
        trt, engine = self._trt.module, self._engine
        types: dict[Any, np.dtype[Any]] = {
            trt.DataType.FLOAT: np.dtype(np.float32),
            trt.DataType.UINT8: np.dtype(np.uint8),
        }
        sides: dict[Any, list[Tensor]] = {trt.TensorIOMode.INPUT: [], trt.TensorIOMode.OUTPUT: []}
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            dtype = types.get(engine.get_tensor_dtype(name))
            if dtype is None:
                raise BackendError(f"{where}: {name} is {engine.get_tensor_dtype(name)}", _REBUILD)
            shape = tuple(engine.get_tensor_shape(name))[1:]
            sides[engine.get_tensor_mode(name)].append(Tensor(name, shape, dtype))
        if [len(side) for side in sides.values()] != [1, 1]:
            raise BackendError(f"{where} has not one input and one output", _REBUILD)
        return sides[trt.TensorIOMode.INPUT][0], sides[trt.TensorIOMode.OUTPUT][0]
