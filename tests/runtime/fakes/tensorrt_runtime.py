"""The running side of ``tensorrt`` and ``tensorrt_rtx`` without a GPU, as each version has it.

An engine really computes: when its stream gets to it, it reads the bytes at its input's address, runs the
ONNX graph that its plan names through ONNX Runtime, and writes to its output's address. Shapes and addresses
are taken as they were when it was enqueued or captured, as on a GPU.

Members are those of the real bindings, which a test holds against ``tensorrt_members.json``. What 11 removed
is there for 10 and recorded like every call, so that a test can see that nobody uses it.
"""

from __future__ import annotations

import ctypes
import json
import weakref
from enum import Enum, IntEnum
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime
from tests.runtime.fakes.tensorrt_builder import Severity

VERSIONS = ("10.3.0", "10.13.3", "11.4.0", "1.7.1")
SCRATCH = 1 << 20
# Of the engine: in 10, gone in 11. The names of 8.6 (bindings, execute_async_v2) were gone in 10 already.
REMOVED = (
    "device_memory_size",
    "get_device_memory_size_for_profile",
    "create_execution_context_without_device_memory",
)


def fake_plan(
    onnx: object,
    *,
    version: str = VERSIONS[0],
    batch: tuple[int, int, int] = (1, 4, 8),
    compatible: bool = False,
) -> bytes:
    """A plan that the fake runtime of ``version`` loads; ``compatible``: a newer one of its major too."""
    plan = {"onnx": str(onnx), "version": version, "batch": batch, "compatible": compatible}
    return json.dumps(plan).encode()


class DataType(Enum):
    FLOAT, HALF, INT64, UINT8 = range(4)


class TensorIOMode(Enum):
    INPUT, OUTPUT = range(2)


class Strategy(Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class Invalidity(IntEnum):
    VERSION_MISMATCH, UNSUPPORTED_CC, OLD_CUDA_DRIVER, OLD_CUDA_RUNTIME = 1, 2, 4, 8
    INSUFFICIENT_GPU_MEMORY, MALFORMED_ENGINE, CUDA_ERROR = 16, 32, 64


class ILogger:
    def __init__(self) -> None:
        """A subclass must call this, or the real one refuses it."""
        self.initialised = True


def fake_tensorrt(cuda: FakeCudaRuntime, version: str) -> SimpleNamespace:
    """The module ``tensorrt`` of ``version``, or ``tensorrt_rtx`` for 1.x, running on ``cuda``."""
    common = {
        "__version__": version,
        "DataType": DataType,
        "TensorIOMode": TensorIOMode,
        "ExecutionContextAllocationStrategy": Strategy,
        "ILogger": ILogger,
        "Runtime": lambda logger: Runtime(Fake(cuda, version, logger)),
    }
    if version.startswith("1."):
        graphs = Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
        kernels = Enum("DynamicShapesKernelSpecializationStrategy", ["LAZY", "EAGER", "NONE"])
        common |= {
            "CudaGraphStrategy": graphs,
            "DynamicShapesKernelSpecializationStrategy": kernels,
            "EngineInvalidityDiagnostics": Invalidity,
            "Runtime": lambda logger: RtxRuntime(Fake(cuda, version, logger)),
        }
    return SimpleNamespace(**common)


class Fake:
    """What the objects of one runtime share."""

    def __init__(self, cuda: FakeCudaRuntime, version: str, logger: Any) -> None:
        assert logger.initialised
        self.cuda, self.version, self.logger = cuda, version, logger

    def call(self, name: str, *arguments: Any) -> bool:
        """Record a call; False where it is to fail, with a line for the logger."""
        fails = len(self.cuda.calls) in self.cuda.fail
        self.cuda.calls.append((name, arguments))
        if fails:
            self.logger.log(Severity.ERROR, f"{name} was made to fail")
        return not fails

    def born(self, thing: Any, kind: str, *needs: Any) -> None:
        """Note a TensorRT object; what it needs must outlive it."""
        number = self.cuda.new(kind)
        thing._number = number
        weakref.finalize(thing, self._gone, number, kind, [need._number for need in needs]).atexit = False

    def _gone(self, number: int, kind: str, needs: list[int]) -> None:
        self.cuda.calls.append((f"release {kind}", (number,)))
        missing = [need for need in needs if need not in self.cuda.live]
        if missing or self.cuda.live.pop(number, None) != kind:  # exceptions in finalisers are lost
            self.cuda.live[-number] = f"{kind} released too late or twice"


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, fake: Fake) -> None:
        if not fake.call("Runtime"):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._fake = fake
        fake.born(self, "runtime")

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        if not self._fake.call("deserialize_cuda_engine"):
            return None
        plan = json.loads(serialized_engine)
        if plan["compatible"] and not self.engine_host_code_allowed:
            self._fake.logger.log(Severity.ERROR, "engine host code is not allowed")
            return None
        if plan["version"] != self._fake.version and not plan["compatible"]:
            self._fake.logger.log(Severity.ERROR, f"plan of {plan['version']}, runtime {self._fake.version}")
            return None
        return Engine(self._fake, self, plan)


class RtxRuntime(Runtime):
    def get_engine_validity(self, buffer: bytes) -> tuple[str, int]:
        """The verdict that the plan names, else a mismatch of versions."""
        plan = json.loads(buffer)
        return "INVALID", plan.get("invalid", int(Invalidity.VERSION_MISMATCH))


@lru_cache
def _session(onnx: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


_TYPES = {"tensor(float)": (DataType.FLOAT, np.float32), "tensor(uint8)": (DataType.UINT8, np.uint8)}


class Engine:
    def __init__(self, fake: Fake, runtime: Runtime, plan: dict[str, Any]) -> None:
        self._fake, self._batch = fake, plan["batch"]
        self._session = _session(plan["onnx"])
        self._tensors = {
            put.name: (mode, tuple(put.shape[1:]), *_TYPES[put.type])
            for mode, puts in (
                (TensorIOMode.INPUT, self._session.get_inputs()),
                (TensorIOMode.OUTPUT, self._session.get_outputs()),
            )
            for put in puts
        }
        self.num_io_tensors = len(self._tensors)
        fake.born(self, "engine", runtime)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self._tensors[name][1])

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensors[name][2]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0 and self._tensors[name][0] is TensorIOMode.INPUT
        return [(batch, *self._tensors[name][1]) for batch in self._batch]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return SCRATCH

    def create_runtime_config(self) -> RuntimeConfig:
        if self._fake.version == "10.3.0":
            raise AttributeError("create_runtime_config")
        return RuntimeConfig(self._fake, self)

    def create_execution_context(self, how: Any = Strategy.STATIC) -> Context | None:
        said = how._as_it_stands() if isinstance(how, RuntimeConfig) else how
        if not self._fake.call("create_execution_context", said):
            return None
        return Context(self._fake, self, how if isinstance(how, RuntimeConfig) else None)

    def __getattr__(self, name: str) -> Any:
        if name in REMOVED and self._fake.version.startswith("10."):
            self._fake.call(name)
            return SCRATCH
        raise AttributeError(name)


class RuntimeConfig:
    """As TensorRT for RTX has it; in 10.13 and 11 there is less, which nobody asks for."""

    cuda_graph_strategy: Any = None
    dynamic_shapes_kernel_specialization_strategy: Any = None

    def __init__(self, fake: Fake, engine: Engine) -> None:
        self._fake, self._strategy, self._cache = fake, Strategy.STATIC, None
        fake.born(self, "config", engine)

    def set_execution_context_allocation_strategy(self, strategy: Strategy) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> Strategy:
        return self._strategy

    def create_runtime_cache(self) -> RuntimeCache | None:
        return RuntimeCache(self._fake) if self._fake.call("create_runtime_cache") else None

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        if not self._fake.call("set_runtime_cache", cache._number):
            return False
        self._cache = weakref.ref(cache)  # whether the bindings hold it is not known
        return True

    def _as_it_stands(self) -> SimpleNamespace:
        """For the record of calls, which must not keep the configuration alive."""
        return SimpleNamespace(
            memory=self._strategy,
            graphs=self.cuda_graph_strategy,
            kernels=self.dynamic_shapes_kernel_specialization_strategy,
        )

    def _kernels(self) -> set[int]:
        """Batch sizes whose kernels are there."""
        if self._cache is None:
            return set()
        cache = self._cache()
        assert cache is not None, "the cache went before its configuration"
        return cache._made


class RuntimeCache:
    """Kernels by batch size; serialised with the versions of what they were made on."""

    def __init__(self, fake: Fake) -> None:
        self._fake, self._made = fake, set[int]()
        fake.born(self, "cache")

    def deserialize(self, blob: bytes) -> bool:
        kept = json.loads(blob)
        if not self._fake.call("deserialize") or kept["version"] != self._fake.version:
            return False
        self._made |= set(kept["made"])
        return True

    def serialize(self) -> bytes | None:
        if not self._fake.call("serialize"):
            return None
        return json.dumps({"version": self._fake.version, "made": sorted(self._made)}).encode()


class Context:
    def __init__(self, fake: Fake, engine: Engine, config: RuntimeConfig | None) -> None:
        self._fake, self._engine, self._config = fake, engine, config
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self._memory = 0
        self._changes = [0]  # a list, so that work does not keep the context alive
        fake.born(self, "context", engine, *([] if config is None else [config]))

    def set_device_memory(self, memory: int, size: int) -> None:
        self._fake.call("set_device_memory", memory, size)
        assert self._fake.cuda.is_device(memory, size) and memory % 256 == 0 and size >= SCRATCH
        self._memory = memory

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        fits = least[0] <= shape[0] <= most[0] and tuple(shape[1:]) == least[1:]
        self._shape = tuple(shape)
        self._changes[0] += 1
        return self._fake.call("set_input_shape", name, shape) and fits

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert name in self._engine._tensors
        self._addresses[name] = memory
        return self._fake.call("set_tensor_address", name, memory)

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not self._fake.call("execute_async_v3", stream_handle):
            return False
        if self._config is not None and self._shape[0] not in (kernels := self._config._kernels()):
            self._fake.cuda.calls.append(("make kernels", (self._shape[0],)))
            kernels.add(self._shape[0])
        (name, (_, _, _, dtype)), (target, (_, width, _, _)) = self._engine._tensors.items()
        shape, source, result = self._shape, self._addresses[name], self._addresses[target]
        size, given = int(np.prod(shape)) * np.dtype(dtype).itemsize, shape[0] * int(np.prod(width)) * 4
        session, cuda, memory, number = self._engine._session, self._fake.cuda, self._memory, self._number
        changes, before = self._changes, self._changes[0]

        def compute() -> None:
            assert number in cuda.live and changes[0] == before, "the context is gone, or has another shape"
            assert (
                cuda.is_device(source, size) and cuda.is_device(result, given) and cuda.is_device(memory, 1)
            )
            images = np.frombuffer(ctypes.string_at(source, size), dtype).reshape(shape)
            (embeddings,) = session.run(None, {name: images})
            ctypes.memmove(result, embeddings.astype(np.float32).tobytes(), given)

        cuda.enqueue(stream_handle, compute, source, result, memory)
        return True
