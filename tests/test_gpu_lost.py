"""``rmatk infer`` on an engine whose GPU falls off: results before it are kept, the error is named once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from rmatk_runtime import selection
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.tensorrt import backend as tensorrt
from rmatk_runtime.tensorrt import machine
from rmatk_runtime.tensorrt.key import BatchProfile, EngineKey, Machine
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.store import write_engine
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime
from tests.runtime.fakes.tensorrt_runtime import fake_plan, fake_tensorrt

VERSION = "10.3.0"
ORIN = Gpu("Orin", "8.7", 1 << 33, True)
GOOD = 4
"""Batches before the GPU is gone."""


class Failing(FakeCudaRuntime):
    """Loses the GPU once so many batches have been waited for."""

    def _cudaStreamSynchronize(self, stream: int) -> tuple[()]:
        done = super()._cudaStreamSynchronize(stream)
        if self.names().count("cudaStreamSynchronize") == GOOD:
            self.lost = len(self.calls) + 3  # the times of this batch are still told
        return done


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    bundle = Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))
    key = EngineKey(
        flavour="tensorrt",
        tensorrt=VERSION,
        machine="aarch64",
        gpu=ORIN.name,
        compute_capabilities=("8.7",),
        precision="fp32",
        input="images",
        batch=BatchProfile(1, 1, 8),
        onnx_sha256=bundle.manifest.files["image_encoder.onnx"].sha256,
    )
    plan = fake_plan(bundle.path / "image_encoder.onnx", version=VERSION, batch=(1, 1, 8))
    write_engine(bundle, plan, key=key, built="2026-01-01T00:00:00+00:00", seconds=1, layers=1)
    return bundle


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCudaRuntime:
    cuda = Failing()
    here = Machine("aarch64", ORIN.name, ORIN.compute_capability, {"tensorrt": VERSION})
    module = fake_tensorrt(cuda, VERSION)
    monkeypatch.setattr(selection, "list_gpus", lambda: [ORIN])
    monkeypatch.setattr(machine, "this_machine", lambda: here)
    monkeypatch.setattr(tensorrt, "load_tensorrt", lambda flavour: TensorRt(module, flavour, VERSION))
    monkeypatch.setattr(Cuda, "load", lambda: Cuda(cuda))
    return cuda


def test_the_run_ends_with_code_1_its_results_and_one_error(
    bundle: Bundle,
    cuda: FakeCudaRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    from rmatk.cli import main

    out = tmp_path / "out.jsonl"
    words = ["infer", bundle.path, "test://64x48?frames=30&live=0", "--batch", 2, "--jsonl", out]
    monkeypatch.setattr(sys, "argv", ["rmatk", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    said = capfd.readouterr().err
    assert left.value.code == 1
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["frame"] for record in records] == list(range(2 * GOOD))
    # Said once, not again for each thing that a lost GPU does not take back
    assert said.count("CUDA: ") == 1 and "error: CUDA: " in said and "(cudaErrorIllegalAddress)" in said
    assert "Traceback" not in said
    assert not cuda.live
