"""The CUDA calls: against a fake that is late on purpose, and, where it is installed, the real signatures."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest

from rmatk_runtime.errors import BackendError, MissingExtraError
from rmatk_runtime.nvidia.cuda import Cuda, DeviceBuffer, Event, PinnedBuffer, Stream
from rmatk_runtime.nvidia.driver import list_gpus
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime, Status


@pytest.fixture
def runtime() -> FakeCudaRuntime:
    return FakeCudaRuntime()


def test_bytes_travel_to_the_gpu_and_back_when_waited_for(runtime: FakeCudaRuntime):
    cuda = Cuda(runtime)
    with (
        Stream(cuda) as stream,
        PinnedBuffer(cuda, (4, 3), np.dtype(np.float32)) as source,
        PinnedBuffer(cuda, (4, 3), np.dtype(np.float32)) as target,
        DeviceBuffer(cuda, 48) as device,
        Event(cuda) as before,
        Event(cuda) as after,
    ):
        source.array[:] = np.arange(12).reshape(4, 3)
        target.array[:] = -1
        stream.record(before)
        stream.upload(device, source, 24)
        stream.download(target, device, 24)
        stream.record(after)
        assert (target.array == -1).all()
        stream.wait()
        np.testing.assert_array_equal(target.array[:2], source.array[:2])
        assert (target.array[2:] == -1).all()
        assert after.milliseconds_since(before) == 3
    assert not runtime.live


def test_captured_work_is_done_at_launch_not_at_capture(runtime: FakeCudaRuntime):
    cuda = Cuda(runtime)
    with (
        Stream(cuda) as stream,
        PinnedBuffer(cuda, (1,), np.dtype(np.float32)) as source,
        DeviceBuffer(cuda, 4) as device,
        stream.capture(lambda: stream.upload(device, source, 4)) as graph,
    ):
        assert not runtime.queues[int(stream)] and list(runtime.live.values()).count("graph") == 0
        stream.launch(graph)
        assert len(runtime.queues[int(stream)]) == 1
        stream.wait()
    assert not runtime.live


def test_a_graph_that_cannot_be_instantiated_leaves_nothing(runtime: FakeCudaRuntime):
    with Stream(Cuda(runtime)) as stream:
        runtime.fail[len(runtime.calls) + 2] = Status.cudaErrorMemoryAllocation
        with pytest.raises(BackendError, match="cudaGraphInstantiate"):
            stream.capture(lambda: None)
    assert not runtime.live


def test_a_stream_works_again_after_work_that_failed_in_capture(runtime: FakeCudaRuntime):
    def work() -> None:
        raise BackendError("cannot be captured")

    with Stream(Cuda(runtime)) as stream:
        with pytest.raises(BackendError, match="cannot be captured"):
            stream.capture(work)
        stream.wait()  # the fake refuses this while it captures
    assert not runtime.live


def test_an_error_names_call_and_error_and_what_to_do(runtime: FakeCudaRuntime):
    runtime.fail[0] = Status.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match=r"cudaMalloc failed: .*\(cudaErrorMemoryAllocation\)") as caught:
        DeviceBuffer(Cuda(runtime), 10)
    assert "--batch" in (caught.value.hint or "") and not runtime.live


@pytest.mark.parametrize(
    ("driver", "message", "hint"),
    [(0, "no NVIDIA driver", "rmatk doctor"), (12060, "for CUDA 12.6, cuda-bindings for 13.0", "==12.*")],
)
def test_no_driver_and_an_old_driver_are_told_apart(
    runtime: FakeCudaRuntime, driver: int, message: str, hint: str
):
    runtime.driver, runtime.fail[0] = driver, Status.cudaErrorInsufficientDriver
    with pytest.raises(BackendError, match=message) as caught:
        Cuda(runtime).call("cudaGetDeviceCount")
    assert hint in (caught.value.hint or "")


def test_bindings_that_find_no_libcuda_are_told_as_no_driver(monkeypatch: pytest.MonkeyPatch):
    def none() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    bindings = SimpleNamespace(runtime=SimpleNamespace(cudaGetDeviceCount=none))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    with pytest.raises(BackendError, match=r"no NVIDIA driver .*libcuda"):
        Cuda.load()


@pytest.mark.parametrize(
    ("driver", "hint"), [("12.6", "pip install 'cuda-bindings==12.*'"), (None, "pip install cuda-bindings")]
)
def test_missing_bindings_are_those_for_the_driver(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, hint: str
):
    def version() -> str:
        if driver is None:
            raise BackendError("no driver")
        return driver

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr("rmatk_runtime.nvidia.cuda.driver_version", version)
    with pytest.raises(MissingExtraError, match="cuda-bindings is not installed") as caught:
        Cuda.load()
    assert caught.value.hint == hint


def test_giving_back_happens_once_and_its_failure_is_told_not_raised(
    runtime: FakeCudaRuntime, caplog: pytest.LogCaptureFixture
):
    buffer = DeviceBuffer(Cuda(runtime), 10)
    runtime.fail[len(runtime.calls)] = Status.cudaErrorIllegalAddress
    with caplog.at_level(logging.WARNING):
        buffer.close()
    buffer.close()
    assert runtime.names().count("cudaFree") == 1 and "cudaErrorIllegalAddress" in caplog.text
    with pytest.raises(BackendError, match="used after cudaFree"):
        int(buffer)


def test_the_fake_takes_what_the_real_bindings_take():
    real = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    fakes = {name[1:] for name in vars(FakeCudaRuntime) if name.startswith("_cuda")}
    for name in fakes:
        signature = re.match(rf"{name}\((.*)\)", getattr(real, name).__doc__)
        assert signature, name
        wanted = len([part for part in signature[1].split(",") if part.strip()])
        assert len(inspect.signature(getattr(FakeCudaRuntime, f"_{name}")).parameters) - 1 == wanted, name
    for status in Status:
        assert getattr(real.cudaError_t, status.name) == status.value
    assert real.cudaStreamNonBlocking == FakeCudaRuntime.cudaStreamNonBlocking


def test_real_bindings_without_a_gpu_say_so():
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    with suppress(BackendError):
        list_gpus()
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendError, match="driver|no CUDA-capable device"):
        Cuda.load()
