"""The TensorRT runner against fakes of TensorRT and CUDA that compute late and for real."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend
from rmatk_runtime.tensorrt import lane as tensorrt_lane
from rmatk_runtime.tensorrt.backend import TensorRtBackend
from rmatk_runtime.tensorrt.build import build_plan
from rmatk_runtime.tensorrt.library import TensorRt, load_tensorrt
from rmatk_runtime.tensorrt.options import BuildOptions
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime, Status
from tests.runtime.fakes.tensorrt_builder import MEMBERS, Severity
from tests.runtime.fakes.tensorrt_runtime import (
    REMOVED,
    SCRATCH,
    VERSIONS,
    Context,
    Engine,
    Invalidity,
    RtxRuntime,
    Runtime,
    RuntimeCache,
    RuntimeConfig,
    fake_plan,
    fake_tensorrt,
)

WIDTH = 5


def write_graph(path: Path, *, pixels: bool = False) -> Path:
    """``images`` (N, 3, 4, 4) float32, or ``pixels`` (N, 4, 4, 3) uint8 -> ``embeddings`` (N, 5)."""
    name, shape = ("pixels", (4, 4, 3)) if pixels else ("images", (3, 4, 4))
    kind = TensorProto.UINT8 if pixels else TensorProto.FLOAT
    weights = np.random.default_rng(3).normal(size=(48, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, ("N", *shape))],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ("N", WIDTH))],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "image_encoder.onnx")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def cuda() -> FakeCudaRuntime:
    return FakeCudaRuntime()


def open_backend(
    cuda: FakeCudaRuntime, graph: Path, version: str = VERSIONS[0], *, batch=(1, 4, 8), **options: Any
) -> TensorRtBackend:
    flavour = "tensorrt_rtx" if version.startswith("1.") else "tensorrt"
    trt = TensorRt(fake_tensorrt(cuda, version), flavour, version)
    plan = fake_plan(graph, version=version, batch=batch)
    return TensorRtBackend(trt, plan, "test.engine", Cuda(cuda), **options)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 4, 4)).astype(np.float32)


def check(backend: TensorRtBackend, graph: Path, count: int, seed: int = 0) -> None:
    """``embed`` equals ONNX Runtime on the CPU, image by image."""
    batch = images(count, seed)
    with OnnxRuntimeBackend(graph) as reference:
        expected = np.concatenate([reference.embed(batch[row : row + 1]) for row in range(count)])
    np.testing.assert_allclose(backend.embed(batch), expected, atol=1e-6)


def test_embeds_as_the_cpu_does_on_every_version(cuda: FakeCudaRuntime, graph: Path, version: str):
    with open_backend(cuda, graph, version) as backend:
        for seed, count in enumerate((1, 1, 1, 8, 3, 8, 8, 21, 1, 21)):
            check(backend, graph, count, seed)
        assert backend.batches == (1, 8) and version in backend.name
    assert not cuda.live
    assert not set(cuda.names()) & set(REMOVED)


def test_calls_of_the_first_batch_are_in_order_and_on_one_stream(cuda: FakeCudaRuntime, graph: Path):
    backend = open_backend(cuda, graph)
    before = len(cuda.calls)
    backend.embed(images(2))
    names = [name for name, _ in cuda.calls[before:] if name != "cudaEventElapsedTime"]
    assert names == [
        "cudaEventRecord",
        "cudaMemcpyAsync",
        "cudaEventRecord",
        "create_execution_context",
        "set_device_memory",
        "set_input_shape",
        "set_tensor_address",
        "set_tensor_address",
        "execute_async_v3",
        "cudaEventRecord",
        "cudaMemcpyAsync",
        "cudaEventRecord",
        "cudaStreamSynchronize",
    ]
    (stream,) = (handle for handle, kind in cuda.live.items() if kind == "stream")
    used = [call[1][-1] for call in cuda.calls[before:] if call[0] in ("cudaMemcpyAsync", "execute_async_v3")]
    assert used == [stream] * 3
    backend.close()


def test_buffers_are_allocated_once_for_the_largest_batch(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph) as backend:
        sizes = sorted(size for address, size in cuda.sizes.items() if cuda.live[address] == "device")
        assert sizes == [8 * WIDTH * 4, 8 * 48 * 4, SCRATCH]
        for count in (1, 8, 2, 8):
            backend.embed(images(count))
        allocations = Counter(cuda.names())
        assert (allocations["cudaMalloc"], allocations["cudaHostAlloc"]) == (3, 2)


def test_only_the_rows_of_the_batch_are_copied(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph) as backend:
        backend.embed(images(3))
        copied = [arguments[2] for name, arguments in cuda.calls if name == "cudaMemcpyAsync"]
        assert copied == [3 * 48 * 4, 3 * WIDTH * 4]


def test_small_batches_are_filled_up_to_the_least(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph, batch=(4, 4, 4)) as backend:
        check(backend, graph, 4, seed=1)
        check(backend, graph, 1, seed=2)
        check(backend, graph, 9, seed=3)
        shapes = {arguments[1][0] for name, arguments in cuda.calls if name == "set_input_shape"}
        assert shapes == {4}


def test_large_batches_are_split_between_two_lanes(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph) as backend:
        check(backend, graph, 30)
        streams = [arguments[0] for name, arguments in cuda.calls if name == "execute_async_v3"]
        assert len(streams) == 4 and streams[0::2] == [streams[0]] * 2 and streams[1::2] == [streams[1]] * 2
        assert streams[0] != streams[1]
        # The second part is under way before the first is waited for.
        names = cuda.names()
        first_wait = names.index("cudaStreamSynchronize")
        assert names[:first_wait].count("execute_async_v3") == 2


def test_second_lane_that_finds_no_memory_is_told_and_done_without(
    cuda: FakeCudaRuntime, graph: Path, caplog: pytest.LogCaptureFixture
):
    with open_backend(cuda, graph) as backend:
        cuda.fail[len(cuda.calls) + 6] = Status.cudaErrorMemoryAllocation
        with caplog.at_level(logging.WARNING):
            check(backend, graph, 30)
            check(backend, graph, 30, seed=1)
        assert len([name for name in cuda.live.values() if name == "stream"]) == 1
    assert caplog.text.count("one part after the other") == 1 and not cuda.live


def test_a_batch_size_runs_plainly_then_is_captured_once_then_replayed(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph) as backend:
        for number in range(4):
            check(backend, graph, 2, seed=number)
        check(backend, graph, 5)
        check(backend, graph, 2, seed=9)
        kinds = ("execute_async_v3", "cudaStreamBeginCapture", "cudaGraphInstantiate", "cudaGraphLaunch")
        used = [name for name in cuda.names() if name in kinds]
        first, capture, launch = kinds[0], [kinds[1], kinds[0], kinds[2]], kinds[3]
        assert used == [first, *capture, launch, launch, launch, first, launch]


def test_without_graphs_every_batch_is_enqueued(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph, graphs=False) as backend:
        for _ in range(3):
            backend.embed(images(2))
    assert "cudaStreamBeginCapture" not in cuda.names()
    assert cuda.names().count("execute_async_v3") == 3


@pytest.mark.parametrize("step", ["cudaStreamBeginCapture", "execute_async_v3", "cudaStreamEndCapture"])
def test_a_refused_capture_is_told_once_and_done_without(
    cuda: FakeCudaRuntime, graph: Path, step: str, caplog: pytest.LogCaptureFixture
):
    offset = {"cudaStreamBeginCapture": 3, "execute_async_v3": 4, "cudaStreamEndCapture": 5}[step]
    with open_backend(cuda, graph) as backend, caplog.at_level(logging.WARNING):
        check(backend, graph, 2)
        cuda.fail[len(cuda.calls) + offset] = Status.cudaErrorStreamCaptureInvalidated
        for seed in (1, 2, 3):
            check(backend, graph, 2, seed)
        failed = next(iter(cuda.fail))
        assert cuda.calls[failed][0] == step and "cudaGraphLaunch" not in cuda.names()
    assert caplog.text.count("without a CUDA graph") == 1 and not cuda.live


def test_no_more_batch_sizes_are_kept_than_agreed(
    cuda: FakeCudaRuntime, graph: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tensorrt_lane, "KEPT_SIZES", 2)
    with open_backend(cuda, graph) as backend:
        for count in (1, 1, 2, 2, 1, 3, 3, 1, 2):
            check(backend, graph, count)
        kinds = Counter(cuda.live.values())
        assert kinds["context"] == 2 and kinds["executable"] == 1
        # 3 drove out 2, the one unused longest, and 2 came back instead of 3.
        assert cuda.names().count("create_execution_context") == 4
    assert not cuda.live


def test_rtx_is_left_to_capture_by_itself_and_makes_its_kernels_first(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph, "1.7.1") as backend:
        for _ in range(3):
            backend.embed(images(2))
        (how,) = (arguments[0] for name, arguments in cuda.calls if name == "create_execution_context")
        assert (how.memory.name, how.graphs.name) == ("USER_MANAGED", "WHOLE_GRAPH_CAPTURE")
        assert how.kernels.name == "EAGER"
    assert "cudaStreamBeginCapture" not in cuda.names()


def test_times_are_those_of_the_last_call(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph) as backend:
        backend.embed(images(2))  # the fake's clock ticks once per piece of work: copy + event, ...
        assert (backend.times.upload, backend.times.compute, backend.times.download) == (2, 2, 2)
        backend.embed(images(20))
        assert backend.times.compute == 6


def test_pixels_are_taken_as_bytes(cuda: FakeCudaRuntime, tmp_path: Path):
    graph = write_graph(tmp_path / "pixels.onnx", pixels=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    with open_backend(cuda, graph) as backend:
        flat = pixels.reshape(3, 48).astype(np.float64)
        weights = np.random.default_rng(3).normal(size=(48, WIDTH)).astype(np.float32)
        expected = flat @ weights
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(backend.embed(pixels), expected, atol=1e-6)
        with pytest.raises(BackendError, match=r"expected \(N, 4, 4, 3\) uint8, got .* float32"):
            backend.embed(images(1))


@pytest.mark.parametrize(
    "wrong",
    [images(0), images(1)[0], images(1)[:, :, :3], images(1).astype(np.float64)],
    ids=["empty", "no batch", "height", "type"],
)
def test_wrong_images_are_refused_before_the_gpu_sees_them(
    cuda: FakeCudaRuntime, graph: Path, wrong: np.ndarray
):
    with open_backend(cuda, graph) as backend:
        before = len(cuda.calls)
        with pytest.raises(BackendError, match=r"expected \(N, 3, 4, 4\) float32, got"):
            backend.embed(wrong)
        assert len(cuda.calls) == before


def test_closed_twice_and_used_after(cuda: FakeCudaRuntime, graph: Path):
    backend = open_backend(cuda, graph)
    backend.embed(images(2))
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.embed(images(1))
    assert not cuda.live


def test_contexts_go_before_their_memory_and_the_engine_last(cuda: FakeCudaRuntime, graph: Path):
    backend = open_backend(cuda, graph)
    for _ in range(2):
        backend.embed(images(2))
    before = len(cuda.calls)
    backend.close()
    names = [name for name, _ in cuda.calls[before:] if name not in ("cudaEventDestroy", "cudaFreeHost")]
    assert names == [
        "cudaStreamSynchronize",
        "cudaGraphExecDestroy",
        "release context",
        *["cudaFree"] * 3,
        "cudaStreamDestroy",
        "release engine",
        "release runtime",
    ]


def test_a_plan_of_another_version_is_refused_in_tensorrts_words(cuda: FakeCudaRuntime, graph: Path):
    trt = TensorRt(fake_tensorrt(cuda, "10.13.3"), "tensorrt", "10.13.3")
    with pytest.raises(BackendError, match="does not load test.engine: plan of 10.3.0") as caught:
        TensorRtBackend(trt, fake_plan(graph), "test.engine", Cuda(cuda))
    assert "rmatk export" in (caught.value.hint or "")
    assert not cuda.live


def test_a_plan_that_finds_no_memory_is_not_told_to_be_built_again(cuda: FakeCudaRuntime, graph: Path):
    module = fake_tensorrt(cuda, "10.3.0")
    load = module.Runtime.__call__

    def full(logger: Any) -> Any:
        runtime = load(logger)
        runtime.deserialize_cuda_engine = lambda data: logger.log(
            Severity.ERROR, "CUDA error 2: out of memory"
        )
        return runtime

    module.Runtime = full
    with pytest.raises(BackendError, match=r"does not load test.engine: .*out of memory") as caught:
        TensorRtBackend(TensorRt(module, "tensorrt", "10.3.0"), fake_plan(graph), "test.engine", Cuda(cuda))
    assert "--batch" in str(caught.value.hint) and "close what else" in str(caught.value.hint)
    assert not cuda.live


@pytest.mark.parametrize(
    ("verdict", "hint"),
    [
        (Invalidity.VERSION_MISMATCH, "build it again"),
        (Invalidity.UNSUPPORTED_CC, "build it again"),
        (Invalidity.OLD_CUDA_DRIVER, "update NVIDIA's driver"),
        (Invalidity.INSUFFICIENT_GPU_MEMORY, "build for smaller batches"),
    ],
)
def test_what_rtx_holds_against_a_plan_is_told_with_the_cure(
    cuda: FakeCudaRuntime, graph: Path, verdict: Invalidity, hint: str
):
    trt = TensorRt(fake_tensorrt(cuda, "1.7.1"), "tensorrt_rtx", "1.7.1")
    plan = json.dumps({**json.loads(fake_plan(graph, version="1.6.0")), "invalid": int(verdict)}).encode()
    with pytest.raises(BackendError, match=rf"does not load test.engine: .* \({verdict.name}\)$") as caught:
        TensorRtBackend(trt, plan, "test.engine", Cuda(cuda))
    assert hint in str(caught.value.hint) and not cuda.live


def test_the_code_in_a_version_compatible_plan_is_let_in_only_when_its_key_says_so(
    cuda: FakeCudaRuntime, graph: Path
):
    trt = TensorRt(fake_tensorrt(cuda, "10.13.3"), "tensorrt", "10.13.3")
    plan = fake_plan(graph, compatible=True)
    with TensorRtBackend(trt, plan, "test.engine", Cuda(cuda), host_code=True) as backend:
        check(backend, graph, 3)
    with pytest.raises(BackendError, match="host code is not allowed"):
        TensorRtBackend(trt, plan, "test.engine", Cuda(cuda))
    assert not cuda.live


def test_tensorrt_8_is_refused_by_name(cuda: FakeCudaRuntime, graph: Path):
    module = fake_tensorrt(cuda, "8.6.1")
    del module.ExecutionContextAllocationStrategy
    with pytest.raises(BackendError, match="TensorRT 8.6.1 is too old") as caught:
        TensorRtBackend(TensorRt(module, "tensorrt", "8.6.1"), b"", "test.engine", Cuda(cuda))
    assert "JetPack 6.1" in (caught.value.hint or "") and not cuda.calls


def test_works_again_after_a_failure_on_the_way(cuda: FakeCudaRuntime, graph: Path):
    with open_backend(cuda, graph) as backend:
        check(backend, graph, 20)
        cuda.fail[len(cuda.calls) + 12] = Status.cudaErrorInvalidValue  # in the second of three parts
        with pytest.raises(BackendError):
            backend.embed(images(20, seed=1))
        check(backend, graph, 20, seed=2)


@pytest.mark.parametrize("api", ["10.3.0", "10.13.3", "11.4.0", "rtx 1.7.1"])
def test_the_fake_has_no_member_that_the_real_classes_lack(api: str):
    fakes = {"Runtime": Runtime, "ICudaEngine": Engine, "IExecutionContext": Context}
    if api.startswith("rtx"):
        fakes |= {"Runtime": RtxRuntime, "IRuntimeConfig": RuntimeConfig, "IRuntimeCache": RuntimeCache}
    for name, fake in fakes.items():
        real = set(MEMBERS[name][api].split())
        own = {member for member in vars(fake) if not member.startswith("_")}
        missing = own - real
        assert not missing or (missing, api) == ({"create_runtime_config"}, "10.3.0")
        if name.startswith("IRuntime"):
            continue
        gone = set(MEMBERS[name]["10.3.0"].split()) - set(MEMBERS[name]["11.4.0"].split())
        assert not own & gone and set(REMOVED) <= set(MEMBERS["ICudaEngine"]["10.3.0"].split())


@pytest.mark.tensorrt
def test_the_real_module_without_a_gpu_refuses_in_its_own_words(cuda: FakeCudaRuntime, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed here")
    trt = load_tensorrt("tensorrt_rtx")
    options = BuildOptions(compute_capabilities=("8.9",))
    shapes = {"images": ((1, 3, 4, 4), (4, 3, 4, 4), (8, 3, 4, 4))}
    plan = build_plan(trt, write_graph(tmp_path / "g.onnx"), shapes, options, gpu=None)
    with pytest.raises(BackendError, match=r"TensorRT for RTX .* does not load test.engine: .*") as caught:
        TensorRtBackend(trt, plan.data, "test.engine", Cuda(cuda))
    assert "cudaError 35" in caught.value.message and not cuda.live
    diagnostics = trt.module.EngineInvalidityDiagnostics.__members__
    assert {name: int(bit) for name, bit in diagnostics.items()} == dict(Invalidity.__members__)
    with pytest.raises(BackendError, match=r"does not load bad.engine: .* \(MALFORMED_ENGINE\)$"):
        TensorRtBackend(trt, b"no plan" * 100, "bad.engine", Cuda(cuda))


def use(cuda: FakeCudaRuntime, graph: Path, version: str) -> None:
    """Everything that a backend does in its life."""
    with open_backend(cuda, graph, version) as backend:
        for count in (2, 2, 2, 20):
            backend.embed(images(count))


_VOID = {"set_device_memory", "cudaGetErrorName", "cudaGetErrorString", "make kernels"}  # these cannot fail
_SURVIVED = {  # told in a warning, and done without
    "cudaStreamBeginCapture",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
}


def failing_calls(version: str, graph: Path) -> list[tuple[int, str]]:
    cuda = FakeCudaRuntime()
    use(cuda, graph, version)
    return [(n, name) for n, name in enumerate(cuda.names()) if name not in _VOID and "release" not in name]


@pytest.mark.parametrize("flavour", [VERSIONS[0], VERSIONS[-1]])
def test_whatever_call_fails_everything_is_given_back_once(graph: Path, flavour: str):
    """Each call of a backend's life fails in turn; the fakes refuse to take anything back twice."""
    calls = failing_calls(flavour, graph)
    assert len(calls) > 100
    raised = Counter[str]()
    for number, name in calls:
        cuda = FakeCudaRuntime()
        cuda.fail[number] = Status.cudaErrorMemoryAllocation
        try:
            use(cuda, graph, flavour)
        except BackendError as error:
            assert name in error.message or "made to fail" in error.message or "does not" in error.message
            raised[name] += 1
        assert not cuda.live, f"{name}, call {number}"
    survived = {name for _, name in calls} - set(raised)
    assert {name for name in survived if "Destroy" not in name and "Free" not in name} <= _SURVIVED
