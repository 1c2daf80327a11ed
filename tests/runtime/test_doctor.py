from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rmatk_runtime import gpu
from rmatk_runtime.doctor import examine, probe_bundle
from rmatk_runtime.errors import BundleError
from rmatk_runtime.probes import Probe, accelerators, media, packages, system


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def jetson(root: Path) -> Path:
    write(root / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    write(root / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    return root


def test_every_probe_has_a_reason_and_every_failure_that_can_be_cured_a_hint() -> None:
    probes = examine()
    names = [probe.name for probe in probes]
    assert len(set(names)) == len(names)
    assert {"python", "platform", "gpu", "tensorrt", "ffmpeg", "gstreamer", "cameras", "csi"} <= set(names)
    for probe in probes:
        assert probe.reason
        assert probe.ok or probe.hint or probe.name == "csi"
        assert not (probe.ok and probe.hint)
    assert all(probe.ok for probe in probes if probe.name in ("python", "platform"))


def test_doctor_imports_no_torch() -> None:
    code = (
        "import sys; from rmatk_runtime.doctor import examine; examine(); "
        "assert not {'torch', 'open_clip', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_jetson_is_recognised_with_its_release(tmp_path: Path) -> None:
    assert system.jetson_model(tmp_path) is None
    assert "not a Jetson" in system.probe_platform(tmp_path).reason
    root = jetson(tmp_path)
    assert system.jetson_model(root) == "NVIDIA Jetson Orin Nano Developer Kit"
    assert "L4T 36.4.3 (JetPack 6)" in system.probe_platform(root).reason
    (root / "etc/nv_tegra_release").unlink()  # as inside a container
    assert "L4T release unknown" in system.probe_platform(root).reason


@pytest.mark.parametrize(("available", "ok"), [(512, False), (4096, True)])
def test_memory(tmp_path: Path, available: int, ok: bool) -> None:
    text = f"MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable: {available * 1024} kB\n"
    probe = system.probe_memory(write(tmp_path / "meminfo", text))
    assert probe.ok is ok and f"{available / 1024:.1f} GiB of 8.0 GiB" in probe.reason


def test_extras_are_those_of_the_project() -> None:
    toml = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    project = toml.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = {
        extra: {re.split(r"[<>=!~\[ ]", entry)[0] for entry in entries}
        for extra, entries in project["optional-dependencies"].items()
        if extra != "dev"
    }
    assert {extra: set(names) for extra, names in packages.EXTRAS.items()} == declared


def test_missing_package_is_named_with_a_cure_for_this_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"tensorrt": "10.3.0"}
    monkeypatch.setattr(packages, "installed_version", versions.get)
    monkeypatch.setattr(packages, "_has_module", lambda name: False)
    probe = {probe.name: probe for probe in packages.probe_extras(jetson=False)}["extra trt"]
    assert not probe.ok
    assert "tensorrt 10.3.0 is listed but its files are gone" in probe.reason
    assert "cuda-bindings is not installed" in probe.reason
    assert probe.hint == "pip install 'rmatk[trt]'"
    probe = {probe.name: probe for probe in packages.probe_extras(jetson=True)}["extra trt"]
    assert "python3-libnvinfer" in str(probe.hint)


@pytest.mark.parametrize(
    ("installed", "ok"),
    [
        ({"onnxruntime": "1.20", "onnxruntime-gpu": "1.20"}, False),
        ({"onnxruntime-gpu": "1.20"}, True),
        ({"onnxruntime": "1.20"}, True),
        ({}, False),
    ],
)
def test_two_onnxruntimes_are_told(
    installed: dict[str, str], ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "installed_version", installed.get)
    probe = packages.probe_onnxruntime_clash()
    assert probe.ok is ok
    assert ("overwrite" in probe.reason) is (len(installed) == 2)


@pytest.mark.parametrize(("version", "bad"), [("10.3.0.26", True), ("10.8.0.43", False)])
def test_tensorrt_known_bad_is_told(version: str, bad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "tensorrt_packages", lambda: {"tensorrt_cu12": version})
    probe = accelerators.probe_tensorrt(jetson=False)
    assert probe.ok is not bad
    assert f"tensorrt_cu12 {version}" in probe.reason
    assert ("#4328" in probe.reason and "rmatk parity" in str(probe.hint)) is bad


def test_tensorrt_distributions_are_found_in_all_flavours(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["tensorrt", "tensorrt-cu12", "tensorrt_lean_cu13", "tensorrt_cu12_libs", "torch_tensorrt"]
    found = [SimpleNamespace(metadata={"Name": name}, version="1") for name in names]
    monkeypatch.setattr(packages.metadata, "distributions", lambda: found)
    assert set(packages.tensorrt_packages()) == {"tensorrt", "tensorrt-cu12", "tensorrt_lean_cu13"}


def test_absent_driver_and_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(gpu.ctypes, "CDLL", fail)
    assert "libcuda.so.1" in accelerators.probe_gpu().reason
    monkeypatch.setattr(accelerators, "tensorrt_packages", dict)
    assert "python3-libnvinfer" in str(accelerators.probe_tensorrt(jetson=True).hint)
    for name in ("onnxruntime", "av"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not accelerators.probe_providers().ok
    assert not media.probe_ffmpeg().ok


def test_driver_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: 804))
    probe = accelerators.probe_gpu()
    assert not probe.ok and "804" in probe.reason


def test_providers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("onnxruntime")
    module.__version__ = "1.99"  # type: ignore[attr-defined]
    module.get_available_providers = lambda: ["CUDAExecutionProvider"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    assert accelerators.probe_providers() == Probe("onnxruntime", True, "1.99 with CUDAExecutionProvider")


def test_cameras_are_listed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dev").mkdir()
    assert "no /dev/video*" in media.probe_cameras(tmp_path).reason
    write(tmp_path / "dev/video0", "")
    write(tmp_path / "sys/class/video4linux/video0/name", "HD Webcam\n")
    assert media.probe_cameras(tmp_path) == Probe("cameras", True, "/dev/video0 (HD Webcam)")
    monkeypatch.setattr(media.os, "access", lambda path, mode: False)
    denied = media.probe_cameras(tmp_path)
    assert not denied.ok and "usermod" in str(denied.hint)


def test_gstreamer_and_csi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "missing" in media.probe_gstreamer().reason
    tool = tmp_path / "gst-inspect-1.0"
    write(
        tool,
        '#!/bin/sh\n[ "$1" = --version ] || exit 1\necho "gst-inspect-1.0 1.20.3"\necho "GStreamer 1.20.3"\n',
    )
    tool.chmod(0o755)
    assert media.probe_gstreamer() == Probe("gstreamer", True, "GStreamer 1.20.3")
    assert "argus_socket" in str(media.probe_csi(jetson=True).hint)
    write(tool, "#!/bin/sh\nexit 0\n")
    assert media.probe_csi(jetson=True).ok
    assert not media.probe_csi(jetson=False).ok


def test_bundle_that_cannot_run_is_told_with_its_own_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmatk_runtime.classifier import Classifier

    def refuse(path: Path) -> Classifier:
        raise BundleError("image_encoder.onnx was altered", "copy it again")

    monkeypatch.setattr(Classifier, "open", refuse)
    assert probe_bundle(tmp_path) == Probe("bundle", False, "image_encoder.onnx was altered", "copy it again")


def test_command_prints_lines_or_json_and_fails_only_for_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rmatk(*arguments: str) -> tuple[int, str]:
        from rmatk.cli import main

        monkeypatch.setattr(sys, "argv", ["rmatk", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), capsys.readouterr().out

    code, text = rmatk("doctor")
    assert code == 0 and re.search(r"^ok  python ", text, flags=re.MULTILINE) and "next: rmatk demo" in text
    code, text = rmatk("doctor", str(tmp_path), "--json")
    probes = json.loads(text)["probes"]
    assert code == 1 and all(set(probe) == {"name", "ok", "reason", "hint"} for probe in probes)
    assert probes[-1]["name"] == "bundle" and not probes[-1]["ok"] and "manifest.json" in probes[-1]["reason"]
