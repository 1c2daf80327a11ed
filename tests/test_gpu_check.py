"""tools/gpu_check.py: without a GPU it runs to its end and says what was not run, and why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rmatk.backbones.backbone import Backbone
from rmatk.run import Run
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError, ExportError, MissingExtraError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu, list_gpus
from rmatk_runtime.tensorrt import backend as tensorrt
from rmatk_runtime.tensorrt.build import engine_key
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.store import write_engine
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime
from tests.runtime.fakes.tensorrt_runtime import fake_plan, fake_tensorrt
from tools import gpu_bundle, gpu_check
from tools.gpu_report import Report, Row

ROOT = Path(__file__).parents[1]


@pytest.fixture
def no_gpu() -> None:
    try:
        list_gpus()
    except BackendError:
        return
    pytest.skip("there is a GPU here")


def check(out: Path, *arguments: object) -> dict:
    command = [
        sys.executable,
        "-m",
        "tools.gpu_check",
        "-o",
        out,
        "--rounds",
        2,
        "--batches",
        "1,3",
        "--cpu",
        *arguments,
    ]
    # Two threads on two busy cores spin while they wait for each other: 15 times the work of one thread
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=250, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "not run: tensorrt fp32: no NVIDIA driver" in done.stdout
    return json.loads(out.read_text())


def test_every_part_is_run_or_has_its_reason(no_gpu: None, tiny_bundle: Path, tmp_path: Path):
    report = check(tmp_path / "deep" / "gpu.json", "--bundle", tiny_bundle)
    missing = {part["what"]: part["reason"] for part in report["not_run"]}
    assert {"GPU", "tensorrt fp32", "tensorrt_rtx fp32", "onnxruntime cuda fp32", "PyTorch"} <= set(missing)
    assert all(missing.values()) and report["gpu"] is None
    assert missing["PyTorch"] == "no run to load the model from (--run)"
    (row,) = report["rows"]
    assert (row["what"], row["precision"], row["parity"]["passed"]) == ("ONNX Runtime cpu", "fp32", True)
    assert [(timing["batch"], timing["rounds"]) for timing in row["timings"]] == [(1, 2), (3, 2)]
    assert row["start_ms"] > 0 and row["restart_ms"] > 0
    assert all(timing["p90_ms"] >= timing["p50_ms"] > 0 for timing in row["timings"])
    assert report["date"].endswith("+00:00") and report["versions"]["numpy"]


@pytest.mark.slow
def test_without_a_bundle_one_is_made_in_every_precision(no_gpu: None, tmp_path: Path):
    report = check(tmp_path / "gpu.json")
    assert report["model"] == "rmatk-micro"
    assert [row["precision"] for row in report["rows"]] == ["fp32", "fp16", "int8"]
    missing = {part["what"]: part["reason"] for part in report["not_run"]}
    assert missing["PyTorch"] == "PyTorch finds no GPU"


def test_engines_are_built_checked_and_timed(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The way through with a GPU, on fakes that compute on the CPU."""
    bundle = Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))
    cuda, version = FakeCudaRuntime(), "10.3.0"
    trt = TensorRt(fake_tensorrt(cuda, version), "tensorrt", version)

    def load(flavour: str) -> TensorRt:
        if flavour == "tensorrt":
            return trt
        raise MissingExtraError("TensorRT for RTX", "rtx")

    def build(bundle, graph, trt, options, *, gpu):
        batch = (options.batch.min, options.batch.opt, options.batch.max)
        plan = fake_plan(bundle.file(graph.file), version=version, batch=batch)
        key = engine_key(bundle, graph, trt, options, gpu)
        return write_engine(bundle, plan, key=key, built="2026-01-01T00:00:00+00:00", seconds=2.5, layers=1)

    monkeypatch.setattr(gpu_check, "list_gpus", lambda: [Gpu("Orin", "8.7", 1 << 33, True)])
    monkeypatch.setattr(gpu_check, "driver_version", lambda: "12.6")
    monkeypatch.setattr(gpu_check, "load_tensorrt", load)
    monkeypatch.setattr(gpu_check, "build_engine", build)
    monkeypatch.setattr(tensorrt, "load_tensorrt", load)
    monkeypatch.setattr(Cuda, "load", lambda: Cuda(cuda))
    report = gpu_check.run_all(gpu_check.Check(bundle, (1, 8, 40), 2), None)
    row = next(row for row in report.rows if row.what == "TensorRT 10.3.0")
    assert row.parity and row.build_seconds == 2.5 and row.engine_mb is not None and row.memory_mb > 1
    assert [timing.batch for timing in row.timings] == [1, 8, 40]
    assert set(row.timings[0].device_ms) == {"upload", "compute", "download"}
    assert report.gpu.name == "Orin" and report.driver_cuda == "12.6" and not cuda.live
    missing = {part.what: part.reason for part in report.not_run}
    assert missing["tensorrt_rtx fp32"] == "TensorRT for RTX is not installed"


def test_a_part_may_raise_anything_and_the_file_is_written_after_each(tiny_bundle: Path, tmp_path: Path):
    written: list[Report] = []
    check = gpu_check.Check(Bundle.open(tiny_bundle), (1,), 1, on_part=written.append)
    with check.part("first"):
        raise KeyError("a compiler's table")
    with check.part("second"):
        raise BackendError("no GPU", "buy one")
    with check.part("third"):
        check.rows.append(Row(what="third", precision="fp32"))
    assert [(part.what, part.reason) for part in written[-1].not_run] == [
        ("first", """KeyError: "a compiler's table\""""),
        ("second", "no GPU"),
    ]
    assert len(written) == 3 and [row.what for row in written[-1].rows] == ["third"]
    with pytest.raises(KeyboardInterrupt), check.part("fourth"):
        raise KeyboardInterrupt


def test_one_timing_has_an_end(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_check, "LONGEST", 0.05)
    check = gpu_check.Check(Bundle.open(tiny_bundle), (1,), 10**6)
    assert 1 <= check.time(1, lambda images: time.sleep(0.02)).rounds <= 3


def test_pytorch_is_timed_eager_and_compiled_for_each_size(
    tiny_bundle: Path, tiny_run: Run, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
):
    """On the CPU, with a compiler that gives back what it got."""
    import torch

    asked: list[dict] = []
    monkeypatch.setattr(torch, "compile", lambda function, **how: asked.append(how) or function)
    check = gpu_check.Check(Bundle.open(tiny_bundle), (1, 3), 2)
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda name, pretrained, device: tiny)
    gpu_check.check_torch(check, tiny_run.path, device="cpu")
    assert not check.missing and asked == [{"mode": "reduce-overhead", "dynamic": False}]
    assert [(row.what, row.precision) for row in check.rows] == [
        (what, precision) for what in ("PyTorch eager", "torch.compile") for precision in ("fp32", "fp16")
    ]
    assert all([timing.batch for timing in row.timings] == [1, 3] for row in check.rows)


def test_a_precision_that_does_not_hold_is_left_out_and_told():
    tried: list[tuple[str, ...]] = []

    def export(precisions: tuple[str, ...]) -> None:
        tried.append(precisions)
        if "int8" in precisions:
            raise ExportError("int8 costs too much")

    missing = gpu_bundle.export_what_holds(export)
    assert tried == [("fp32", "fp16", "int8"), ("fp32", "fp16")]
    assert [(part.what, part.reason) for part in missing] == [("export int8", "int8 costs too much")]

    def refuse(precisions: tuple[str, ...]) -> None:
        raise ExportError("nothing holds")

    with pytest.raises(ExportError, match="nothing holds"):
        gpu_bundle.export_what_holds(refuse)
