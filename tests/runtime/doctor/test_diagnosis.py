from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rmatk_runtime.doctor.diagnosis import examine, probe_bundle
from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.tensorrt import machine


def test_every_probe_has_a_reason_and_every_failure_that_can_be_cured_a_hint() -> None:
    probes = [probe for section in examine().values() for probe in section]
    names = [probe.name for probe in probes]
    assert len(set(names)) == len(names)
    expected = {
        "python",
        "platform",
        "memory",
        "disk",
        "onnxruntime",
        "gpu",
        "cuda",
        "tensorrt",
        "tensorrt rtx",
    }
    assert expected | {"ffmpeg", "gstreamer", "cameras", "csi", "train", "export"} <= set(names)
    for probe in probes:
        assert probe.reason
        assert probe.ok or probe.hint or probe.optional, probe
        assert not (probe.ok and (probe.hint or probe.optional))
    assert all(probe.ok for probe in probes if probe.name in ("python", "platform"))


def test_a_jetson_is_asked_more(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson AGX Orin\0")
    sections = examine(tmp_path)
    assert {"swap", "power mode", "clocks"} <= {probe.name for probe in sections["this machine"]}
    (gpu,) = (probe for probe in sections["engines"] if probe.name == "gpu")
    assert gpu.ok or not gpu.optional  # every Jetson has one


def test_doctor_imports_no_torch() -> None:
    code = (
        "import sys; from rmatk_runtime.doctor.diagnosis import examine; examine(); "
        "assert not {'torch', 'open_clip', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_bundle_that_cannot_run_is_told_with_its_own_hint(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmatk_runtime.inference.classifier import Classifier

    def refuse(path: Path) -> Classifier:
        raise BackendError("the CUDA provider failed", "rmatk doctor")

    monkeypatch.setattr(Classifier, "open", refuse)
    expected = Probe("bundle", False, "the CUDA provider failed", "rmatk doctor")
    assert probe_bundle(tiny_bundle) == [expected]


def test_engines_in_a_bundle_are_told_with_every_reason(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "first_gpu", lambda: None)
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (copy / "engines").mkdir()
    (copy / "engines" / "half.engine").write_bytes(b"plan")
    engine, bundle = probe_bundle(copy)
    assert engine == Probe("engine 1", False, "half.engine: its sidecar half.json is missing", optional=True)
    assert not bundle.ok and "half.engine" in bundle.reason and "--backend cpu" in str(bundle.hint)
    monkeypatch.setattr(machine, "first_gpu", lambda: Gpu("Orin", "8.7", 8 << 30, integrated=True))
    assert probe_bundle(copy)[0].hint == f"rmatk export {copy} --trt --precision fp32"


def test_json_has_four_fields_and_the_code_is_the_bundles(rmatk, tiny_bundle: Path, tmp_path: Path) -> None:
    code, out, _ = rmatk("doctor", tiny_bundle, "--json")
    probes = json.loads(out)["probes"]
    assert code == 0 and probes[-1]["name"] == "bundle" and probes[-1]["ok"]
    assert all(set(probe) == {"name", "ok", "reason", "hint"} and probe["reason"] for probe in probes)
    code, out, _ = rmatk("doctor", tmp_path, "--json")
    bundle = json.loads(out)["probes"][-1]
    assert code == 1 and not bundle["ok"] and "manifest.json" in bundle["reason"]


def test_lines_have_three_marks_fit_the_terminal_and_say_what_is_next(
    rmatk, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rmatk_runtime.doctor.diagnosis

    probes = [
        Probe("python", True, "3.10"),
        Probe("swap", False, "word " * 40 + "end", "cure " * 30 + "end"),
        Probe("cameras", False, "none", optional=True),
    ]
    monkeypatch.setattr(rmatk_runtime.doctor.diagnosis, "examine", lambda: {"this machine": probes})
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = rmatk("doctor")
    assert code == 0 and "\x1b" not in out
    assert re.search(r"^this machine\nok python   3.10\nno swap     word", out)
    assert re.search(r"^   -> (cure ){30}end\n-- cameras  none$", out, flags=re.MULTILINE)
    assert all(len(line) <= 60 for line in out.splitlines() if "word" in line)
    assert out.endswith("next: rmatk demo\n")
