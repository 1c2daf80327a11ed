from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rmatk_runtime.doctor import accelerators, media, onnx_runtime, packages, system, tensorrt
from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia import driver as nvidia
from rmatk_runtime.nvidia.driver import Gpu

ORIN = Gpu("Orin", "8.7", 8 << 30, integrated=True)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(("available", "ok"), [(512, False), (4096, True)])
def test_memory(tmp_path: Path, available: int, ok: bool) -> None:
    text = f"MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable: {available * 1024} kB\n"
    write(tmp_path / "proc/meminfo", text)
    probe = system.probe_memory(tmp_path)
    assert probe.ok is ok and f"{available / 1024:.1f} GiB of 8.0 GiB" in probe.reason


def test_extras_are_those_of_the_project() -> None:
    toml = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    project = toml.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    declared = {
        extra: {re.split(r"[<>=!~\[ ]", entry)[0] for entry in entries}
        for extra, entries in project["optional-dependencies"].items()
        if extra not in ("dev", "docs")
    }
    assert {extra: set(names) for extra, names in packages.EXTRAS.items()} == declared


def test_missing_packages_of_an_extra_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed_version", {"torch": "2.11", "tokenizers": "0.21"}.get)
    monkeypatch.setattr(packages, "_has_module", lambda name: True)
    probe = {probe.name: probe for probe in packages.probe_extras(jetson=False)}["train"]
    assert not probe.ok and probe.optional and probe.hint == "pip install 'rmatk[train]'"
    expected = "torch 2.11, tokenizers 0.21; not installed: torchvision, open_clip_torch, safetensors"
    assert probe.reason == expected
    probe = {probe.name: probe for probe in packages.probe_extras(jetson=True)}["train"]
    assert "another machine" in str(probe.hint)


def test_packages_whose_files_are_gone_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed_version", {"tensorboard": "2.21"}.get)
    monkeypatch.setattr(packages, "_has_module", lambda name: False)
    probe = {probe.name: probe for probe in packages.probe_extras(jetson=False)}["tensorboard"]
    assert not probe.ok and not probe.optional
    assert probe.reason == "tensorboard 2.21; listed, but their files are gone: tensorboard"
    assert probe.hint == "pip install --force-reinstall tensorboard"


def test_identity_model_is_what_it_says() -> None:
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets, producer_name="rmatk")
    assert onnx_runtime.IDENTITY.read_bytes() == model.SerializeToString()


def test_providers_are_tried_not_listed() -> None:
    package, *providers = onnx_runtime.probe_onnxruntime(jetson=False, gpu=False)
    assert package.ok and re.fullmatch(r"onnxruntime(-gpu)? [\d.]+", package.reason)
    by_name = {probe.name: probe for probe in providers}
    assert by_name["onnxruntime cpu"] == Probe("onnxruntime cpu", True, "granted, and runs")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_listed_provider_that_is_not_granted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    listed = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    for gpu in (False, True):
        _, trt, cuda, cpu = onnx_runtime.probe_onnxruntime(jetson=False, gpu=gpu)
        assert cpu.ok and not trt.ok and trt.optional and not cuda.ok
        assert cuda.optional is not gpu and "onnxruntime-gpu[cuda,cudnn]" in str(cuda.hint)


def test_a_granted_provider_that_fails_or_lies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    session = SimpleNamespace(
        get_inputs=lambda: [SimpleNamespace(name="x")],
        run=lambda names, feed: [feed["x"] + np.float32(1)],
    )
    monkeypatch.setattr(onnx_runtime, "create_session", lambda path, provider: session)
    assert "computes [2.0]" in onnx_runtime.probe_onnxruntime(jetson=False, gpu=True)[1].reason

    def fail(names: object, feed: object) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    session.run = fail
    probe = onnx_runtime.probe_onnxruntime(jetson=False, gpu=True)[1]
    assert not probe.ok and "no kernel image" in probe.reason


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({"onnxruntime": "1.20", "onnxruntime-gpu": "1.20"}, "overwrite each other"),
        ({"onnxruntime-gpu": "1.20"}, None),
        ({"onnxruntime": "1.20"}, None),
        ({}, "not installed"),
    ],
)
def test_two_onnxruntimes_are_told(
    installed: dict[str, str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_runtime, "installed_version", installed.get)
    package, *_ = onnx_runtime.probe_onnxruntime(jetson=False, gpu=False)
    assert package.ok is (said is None) and (said or "1.20") in package.reason
    assert package.ok or "rmatk[gpu]" in str(package.hint)


def test_numpy_2_with_nvidias_jetson_wheel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "installed_version", {"onnxruntime-gpu": "1.20"}.get)
    monkeypatch.setattr(onnx_runtime.sys, "version_info", (3, 10, 12))
    monkeypatch.setattr(onnx_runtime.np, "__version__", "2.2.6")
    (package,) = onnx_runtime.probe_onnxruntime(jetson=True, gpu=True)
    assert not package.ok and "NumPy 2.2.6" in package.reason and package.hint == "pip install 'numpy<2'"
    monkeypatch.setattr(onnx_runtime.np, "__version__", "1.26.4")
    assert onnx_runtime.probe_onnxruntime(jetson=True, gpu=True)[0].ok


def test_absent_or_broken_modules_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "av", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not onnx_runtime.probe_onnxruntime(jetson=False, gpu=False)[0].ok
    assert not media.probe_ffmpeg().ok
    for probe in (tensorrt.probe_tensorrt([], jetson=False), tensorrt.probe_tensorrt_rtx([], jetson=False)):
        assert not probe.ok and probe.optional and "is not installed" in probe.reason


def fake_tensorrt(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)


@pytest.mark.parametrize(
    ("version", "capabilities", "bad"),
    [
        ("10.3.0.26", ["8.7"], "#4328"),
        ("10.3.0.26", [], "#4328"),
        ("10.8.0.43", ["8.7"], None),
        ("10.13.3.9", ["8.9", "11.0"], "Thor"),
        ("10.13.3.9", ["8.9"], None),
    ],
)
def test_tensorrt_known_bad_is_told(
    version: str,
    capabilities: list[str],
    bad: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_tensorrt(monkeypatch, version)
    probe = tensorrt.probe_tensorrt([Gpu("", each, 0, False) for each in capabilities], jetson=False)
    assert probe.ok is (bad is None) and f"TensorRT {version}" in probe.reason
    assert probe.ok or (str(bad) in probe.reason and "rmatk parity" in str(probe.hint) and not probe.optional)


def test_tensorrt_hidden_from_a_virtual_environment_on_a_jetson(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    config = write(tmp_path / "venv/pyvenv.cfg", "include-system-site-packages = false\n")
    monkeypatch.setattr(tensorrt.sys, "prefix", str(tmp_path / "venv"))
    probe = tensorrt.probe_tensorrt([], jetson=True, root=tmp_path)
    assert "python3-libnvinfer" in str(probe.hint) and "--system-site-packages" in str(probe.hint)
    (tmp_path / "usr/lib/python3.10/dist-packages/tensorrt").mkdir(parents=True)
    probe = tensorrt.probe_tensorrt([], jetson=True, root=tmp_path)
    assert not probe.ok and not probe.optional and "does not see system packages" in probe.reason
    assert probe.hint == "create it again: python3 -m venv --system-site-packages .venv"
    write(config, "include-system-site-packages = true\n")
    probe = tensorrt.probe_tensorrt([], jetson=True, root=tmp_path)
    assert "TensorRT is not installed" in probe.reason and "never pip install" in str(probe.hint)


def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(nvidia.ctypes, "CDLL", fail)


def test_driver_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: 804))
    assert "cuInit: error 804" in accelerators.probe_gpu(jetson=True, root=tmp_path).reason


@pytest.mark.parametrize("chosen", ["", "7", None])
def test_gpus_hidden_by_the_environment_are_not_taken_for_a_missing_driver(
    chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: 100))
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert "cuInit: error 100" in accelerators.probe_gpu(jetson=True, root=tmp_path).reason
        return
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    probe = accelerators.probe_gpu(jetson=True, root=tmp_path)
    assert not probe.ok and not probe.optional
    assert f"CUDA_VISIBLE_DEVICES={chosen!r}" in probe.reason and "unset" in str(probe.hint)


def test_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "list_gpus", lambda: [ORIN])
    monkeypatch.setattr(accelerators, "driver_version", lambda: "12.6")
    described = Probe("gpu", True, "Orin (compute 8.7, 8 GiB); driver for CUDA 12.6")
    assert accelerators.probe_gpu(jetson=True) == described


def test_no_gpu_at_all_is_no_failure_but_a_hidden_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(*, jetson: bool = False) -> Probe:
        return accelerators.probe_gpu(jetson=jetson, root=tmp_path)

    no_driver(monkeypatch)
    assert probe().optional and "no NVIDIA GPU on the PCI bus" in probe().reason
    write(tmp_path / "sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n")
    write(tmp_path / "sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n")
    assert probe().optional
    write(tmp_path / "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    write(tmp_path / "sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    assert not probe().optional and "driver" in str(probe().hint)
    write(tmp_path / ".dockerenv", "")
    assert "container was not given the GPU" in probe().reason and "--gpus all" in str(probe().hint)
    assert "--runtime nvidia" in str(probe(jetson=True).hint)


def test_cuda_bindings_follow_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        no_driver(patch)
        assert accelerators.probe_cuda().optional
    monkeypatch.setattr(accelerators, "driver_version", lambda: "12.6")
    monkeypatch.setattr(accelerators.Cuda, "load", lambda: None)
    assert accelerators.probe_cuda().ok

    def fail() -> None:
        raise BackendError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(accelerators.Cuda, "load", fail)
    probe = accelerators.probe_cuda()
    assert not probe.ok and not probe.optional and "cudaErrorInsufficientDriver" in probe.reason
    assert "driver for CUDA 12.6" in probe.reason and probe.hint == "pip install 'cuda-bindings==12.*'"
    monkeypatch.setattr(accelerators, "installed_version", lambda name: None)
    assert accelerators.probe_cuda().hint == "pip install 'cuda-bindings==12.*'"


def test_cameras_are_listed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dev").mkdir()
    assert "no /dev/video*" in media.probe_cameras(tmp_path).reason
    write(tmp_path / "dev/video0", "")
    write(tmp_path / "sys/class/video4linux/video0/name", "HD Webcam\n")
    text = "/dev/video0 (HD Webcam): Inappropriate ioctl for device"  # the file stands for it only by name
    assert media.probe_cameras(tmp_path) == Probe("cameras", True, text)
    monkeypatch.setattr(media.os, "access", lambda path, mode: False)
    denied = media.probe_cameras(tmp_path)
    assert not denied.ok and "usermod" in str(denied.hint)


def test_gstreamer_and_csi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "missing" in media.probe_gstreamer().reason
    tool = tmp_path / "gst-inspect-1.0"
    write(
        tool,
        '#!/bin/sh\n[ "$1" != nvarguscamerasrc ] || exit 1\necho "GStreamer 1.20.3"\n'
        'echo "videoconvertscale:  videoconvert: Video colorspace converter"\n',
    )
    tool.chmod(0o755)
    lacking = media.probe_gstreamer()
    assert lacking.reason == "GStreamer 1.20.3 lacks gdppay, so gst: cannot work" and not lacking.optional
    assert lacking.hint == "sudo apt-get install gstreamer1.0-plugins-bad"
    assert "argus_socket" in str(media.probe_csi(jetson=True).hint)
    write(tool, "#!/bin/sh\nexit 0\n")
    assert media.probe_csi(jetson=True).ok
    assert not media.probe_csi(jetson=False).ok
