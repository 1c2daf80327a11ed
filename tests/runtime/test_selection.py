"""Which engine is chosen, with and without GPU, engines and providers; never the CPU in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rmatk_runtime import selection
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError, ConfigError, MissingExtraError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.selection import BACKENDS, open_backend
from rmatk_runtime.tensorrt import machine
from rmatk_runtime.tensorrt.key import Machine
from tests.runtime.fakes.built_engines import GPU, add_engine
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime
from tests.runtime.fakes.onnxruntime_gpu import CPU, CUDA, TENSORRT, FakeOnnxRuntime


def same_as_cpu(bundle: Bundle, name: str, count: int = 3) -> str:
    """The backend's name, once it has given what the CPU gives."""
    images = np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype(np.float32)
    with open_backend(bundle, name) as backend, open_backend(bundle, "cpu") as reference:
        np.testing.assert_allclose(backend.embed(images), reference.embed(images), atol=1e-5)
        return backend.name


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("name", ["auto", "tensorrt"])
def test_an_engine_built_for_this_machine_comes_first(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Callable[..., FakeOnnxRuntime], name: str, compatible: bool
):
    runtime = ort(TENSORRT, CUDA)
    add_engine(bundle, compatible=compatible)
    assert same_as_cpu(bundle, name, 20) == "TensorRT 10.3.0"
    assert not gpu.live and {provider for provider, *_ in runtime.asked} == {CPU}


@pytest.mark.parametrize("name", ["auto", "tensorrt"])
@pytest.mark.parametrize(
    ("batch", "profile"),
    [(1, (1, 1, 1)), (4, (2, 8, 16)), (8, (2, 8, 16)), (16, (2, 8, 16)), (40, (32, 32, 64))],
)
def test_of_several_engines_the_one_built_for_the_batch_is_taken(
    bundle: Bundle,
    gpu: FakeCudaRuntime,
    ort: Callable[..., FakeOnnxRuntime],
    name: str,
    batch: int,
    profile: tuple[int, int, int],
):
    ort()
    for built in ((1, 1, 1), (2, 8, 16), (32, 32, 64)):
        add_engine(bundle, batch=built)
    with open_backend(bundle, name, batch=batch) as backend:
        assert backend.batches == (profile[0], profile[2])


@pytest.mark.parametrize(
    ("granted", "name"),
    [((TENSORRT, CUDA), "onnxruntime tensorrt"), ((CUDA,), "onnxruntime cuda")],
)
def test_then_what_onnx_runtime_grants(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Callable[..., FakeOnnxRuntime], granted: tuple, name: str
):
    ort(*granted)
    assert same_as_cpu(bundle, "auto") == name


def test_a_stale_engine_is_named_while_the_gpu_is_used_otherwise(
    bundle: Bundle,
    gpu: FakeCudaRuntime,
    ort: Callable[..., FakeOnnxRuntime],
    caplog: pytest.LogCaptureFixture,
):
    ort(CUDA)
    engine = add_engine(bundle, gpu="Xavier")
    with caplog.at_level(logging.WARNING):
        assert same_as_cpu(bundle, "auto") == "onnxruntime cuda"
    assert f"{engine.path.name}: built on Xavier; this machine has Orin" in caplog.text
    assert f"rmatk export {bundle.path} --trt" in caplog.text


def test_an_engine_that_tensorrt_refuses_is_named_too(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Callable[..., FakeOnnxRuntime]
):
    ort(CUDA)
    add_engine(bundle, version="10.0.0")  # the sidecar fits; TensorRT has the last word
    with pytest.raises(BackendError, match=r"does not load .*: plan of 10.0.0, runtime 10.3.0"):
        open_backend(bundle, "tensorrt")
    assert not gpu.live


def test_a_gpu_that_nothing_can_use_is_not_passed_over(
    bundle: Bundle,
    gpu: FakeCudaRuntime,
    ort: Callable[..., FakeOnnxRuntime],
    caplog: pytest.LogCaptureFixture,
):
    ort()
    with pytest.raises(BackendError, match="a GPU is here") as caught:
        open_backend(bundle)
    assert "ort-tensorrt: " in caught.value.message and "cuda: " in caught.value.message
    assert f"rmatk export {bundle.path} --trt" in str(caught.value.hint)
    assert "--allow-cpu" in str(caught.value.hint)
    with caplog.at_level(logging.WARNING):
        assert open_backend(bundle, allow_cpu=True).name == "onnxruntime cpu"
    assert "cuda: " in caplog.text


def test_installed_for_the_cpu_it_runs_there_and_says_how_to_use_the_gpu(
    bundle: Bundle,
    gpu: FakeCudaRuntime,
    ort: Callable[..., FakeOnnxRuntime],
    caplog: pytest.LogCaptureFixture,
):
    ort(available=(CPU,))
    with caplog.at_level(logging.WARNING):
        assert open_backend(bundle).name == "onnxruntime cpu"
    assert f"running on the CPU: a GPU is here, but no engine in {bundle.path}" in caplog.text
    assert f"rmatk export {bundle.path} --trt" in caplog.text


@pytest.mark.parametrize("sign", ["device", "board"])
def test_a_gpu_whose_driver_does_not_start_counts(
    bundle: Bundle,
    no_gpu: None,
    ort: Callable[..., FakeOnnxRuntime],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sign: str,
):
    ort()
    if sign == "device":
        (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(selection, "_DEVICES", tmp_path)
    else:
        monkeypatch.setattr(selection, "jetson_model", lambda: "NVIDIA Jetson Orin Nano")
    with pytest.raises(BackendError, match="fallback to CPU EP has been explicitly disabled"):
        open_backend(bundle)


def test_without_gpu_and_engines_the_cpu_is_what_is_meant(
    bundle: Bundle, no_gpu: None, ort: Callable[..., FakeOnnxRuntime], caplog: pytest.LogCaptureFixture
):
    runtime = ort()
    with caplog.at_level(logging.INFO):
        assert open_backend(bundle).name == "onnxruntime cpu"
    assert [provider for provider, *_ in runtime.asked] == [CPU] and not caplog.text


@pytest.mark.parametrize("name", ["auto", "tensorrt"])
def test_without_gpu_an_engine_is_refused_with_its_reason(
    bundle: Bundle,
    no_gpu: None,
    ort: Callable[..., FakeOnnxRuntime],
    name: str,
    caplog: pytest.LogCaptureFixture,
):
    ort()
    engine = add_engine(bundle)
    with pytest.raises(BackendError, match="no GPU that NVIDIA's driver lists") as caught:
        open_backend(bundle, name)
    assert engine.path.name in caught.value.message and "--allow-cpu" in str(caught.value.hint)
    with caplog.at_level(logging.WARNING):
        assert open_backend(bundle, name, allow_cpu=True).name == "onnxruntime cpu"
    assert engine.path.name in caplog.text
    assert open_backend(bundle, "cpu").name == "onnxruntime cpu"


@pytest.mark.parametrize("name", ["cuda", "ort-tensorrt"])
def test_a_provider_that_is_not_granted_is_refused(
    bundle: Bundle, no_gpu: None, ort: Callable[..., FakeOnnxRuntime], name: str
):
    ort()
    with pytest.raises(BackendError, match="explicitly disabled") as caught:
        open_backend(bundle, name)
    assert "--allow-cpu" in str(caught.value.hint)
    assert open_backend(bundle, name, allow_cpu=True).name == "onnxruntime cpu"


def test_a_missing_package_is_a_reason_like_others(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Callable[..., FakeOnnxRuntime], monkeypatch: pytest.MonkeyPatch
):
    def missing() -> Cuda:
        raise MissingExtraError("cuda-bindings", "trt")

    ort(available=(CPU,))
    monkeypatch.setattr(Cuda, "load", missing)
    add_engine(bundle)
    with pytest.raises(BackendError, match="tensorrt: cuda-bindings is not installed"):
        open_backend(bundle)


@pytest.mark.parametrize(("chosen", "refused"), [("", False), ("-1", False), ("7", True), (None, True)])
def test_a_gpu_hidden_on_purpose_is_none_and_one_that_does_not_start_is_one(
    bundle: Bundle,
    no_gpu: None,
    ort: Callable[..., FakeOnnxRuntime],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    chosen: str | None,
    refused: bool,
):
    ort()
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(selection, "_DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    if refused:
        with pytest.raises(BackendError, match="a GPU is here, and nothing can use it"):
            open_backend(bundle)
    else:
        assert open_backend(bundle).name == "onnxruntime cpu"


def test_cuda_is_asked_for_with_its_options_and_nothing_beside_it(
    bundle: Bundle,
    gpu: FakeCudaRuntime,
    ort: Callable[..., FakeOnnxRuntime],
    capsys: pytest.CaptureFixture[str],
):
    runtime = ort(CUDA)
    open_backend(bundle, "cuda")
    ((provider, options, entries),) = runtime.asked
    assert provider == CUDA and options["use_tf32"] == "0" and options["device_id"] == "0"
    assert entries["session.disable_cpu_ep_fallback"] == "1"
    assert runtime.preloaded == 1 and not capsys.readouterr().out  # what it prints stays out of results


def test_a_session_that_fell_back_without_a_word_is_refused(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Callable[..., FakeOnnxRuntime]
):
    ort().forbids_fallback = False
    with pytest.raises(BackendError, match=f"asked ONNX Runtime for {CUDA}, it granted {CPU}"):
        open_backend(bundle, "cuda")


def test_the_cpu_is_asked_for_without_gpu_options(
    bundle: Bundle, no_gpu: None, ort: Callable[..., FakeOnnxRuntime]
):
    runtime = ort()
    open_backend(bundle, "cpu")
    ((provider, options, entries),) = runtime.asked
    assert (provider, options, runtime.preloaded) == (CPU, {}, 0)
    assert "session.disable_cpu_ep_fallback" not in entries


def test_the_tensorrt_provider_keeps_its_engines_in_the_bundle_by_what_they_depend_on(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Callable[..., FakeOnnxRuntime], monkeypatch: pytest.MonkeyPatch
):
    runtime = ort(TENSORRT)
    with open_backend(bundle, "ort-tensorrt") as backend:
        backend.embed(np.zeros((70, 3, 32, 32), np.float32))
    assert runtime.batches == [32, 32, 6]
    options = runtime.asked[0][1]
    assert options["trt_profile_max_shapes"] == "images:32x3x32x32"
    assert options["trt_engine_cache_enable"] == "True" and "trt_fp16_enable" not in options
    folder = Path(options["trt_engine_cache_path"])
    assert folder.parent == bundle.path / "engines" / "ort" and folder.is_dir()
    assert "Orin" in folder.name and "fp32" in folder.name
    other = Machine("aarch64", GPU.name, GPU.compute_capability, {"tensorrt": "10.13.3"})
    monkeypatch.setattr(machine, "this_machine", lambda: other)
    open_backend(bundle, "ort-tensorrt")
    assert Path(runtime.asked[1][1]["trt_engine_cache_path"]) != folder
    file = "image_encoder.onnx"
    changed = msgspec.structs.replace(bundle.manifest.files[file], sha256="e" * 64)
    files = {**bundle.manifest.files, file: changed}
    other_graph = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, files=files))
    open_backend(other_graph, "ort-tensorrt")
    folders = {options["trt_engine_cache_path"] for _, options, _ in runtime.asked}
    assert len(folders) == 3
    assert Bundle.open(bundle.path) == bundle  # more files than the manifest lists do no harm


def test_a_bundle_that_cannot_be_written_to_is_used_without_keeping_engines(
    bundle: Bundle,
    gpu: FakeCudaRuntime,
    ort: Callable[..., FakeOnnxRuntime],
    caplog: pytest.LogCaptureFixture,
):
    runtime = ort(TENSORRT)
    (bundle.path / "engines").write_bytes(b"in the way")
    with caplog.at_level(logging.WARNING):
        open_backend(bundle, "ort-tensorrt")
    assert "trt_engine_cache_enable" not in runtime.asked[0][1] and "at every start" in caplog.text


def test_unknown_names_are_told_the_known_ones(bundle: Bundle):
    with pytest.raises(ConfigError, match=", ".join(BACKENDS)):
        open_backend(bundle, "quantum")
