"""A device as tests need it: with a GPU that computes on the CPU, or without; an ONNX Runtime that grants."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rmatk_runtime import selection
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.onnx_runtime import backend as onnx_runtime
from rmatk_runtime.tensorrt import backend as tensorrt
from rmatk_runtime.tensorrt import machine
from rmatk_runtime.tensorrt.key import Machine
from rmatk_runtime.tensorrt.library import TensorRt
from tests.runtime.fakes.built_engines import GPU, VERSION
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime
from tests.runtime.fakes.onnxruntime_gpu import CPU, CUDA, TENSORRT, FakeOnnxRuntime
from tests.runtime.fakes.tensorrt_runtime import fake_tensorrt


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """A bundle that a test may change."""
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> list[Gpu]:
        raise BackendError("no NVIDIA driver")

    monkeypatch.setattr(selection, "list_gpus", none)
    monkeypatch.setattr(selection, "jetson_model", lambda: None)
    monkeypatch.setattr(selection, "_DEVICES", Path("/nowhere"))
    monkeypatch.setattr(machine, "this_machine", lambda: Machine("aarch64", None, None, {}))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCudaRuntime:
    """A Jetson with TensorRT 10.3, whose GPU computes on the CPU."""
    cuda = FakeCudaRuntime()
    monkeypatch.setattr(selection, "list_gpus", lambda: [GPU])
    here = Machine("aarch64", GPU.name, GPU.compute_capability, {"tensorrt": VERSION})
    monkeypatch.setattr(machine, "this_machine", lambda: here)
    monkeypatch.setattr(
        tensorrt, "load_tensorrt", lambda flavour: TensorRt(fake_tensorrt(cuda, VERSION), flavour, VERSION)
    )
    monkeypatch.setattr(Cuda, "load", lambda: Cuda(cuda))
    return cuda


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeOnnxRuntime]:
    """Installs an onnxruntime-gpu that grants what it is told."""

    def install(*granted: str, available: tuple[str, ...] = (TENSORRT, CUDA, CPU)) -> FakeOnnxRuntime:
        fake = FakeOnnxRuntime(granted, available)
        monkeypatch.setattr(onnx_runtime, "load_onnxruntime", lambda: fake)
        return fake

    return install
