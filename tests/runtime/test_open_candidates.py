"""What ``rmatk parity`` checks where there are engines: each of them, and the graphs they were built from."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import MANIFEST, encode_manifest
from rmatk_runtime.errors import BackendError
from rmatk_runtime.files import write_atomic
from rmatk_runtime.parity.walk import check_golden
from rmatk_runtime.selection import open_candidates
from rmatk_runtime.tensorrt.store import write_engine
from tests.runtime.fakes.built_engines import add_engine
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime
from tests.runtime.fakes.onnxruntime_gpu import CPU, CUDA, FakeOnnxRuntime
from tests.runtime.fakes.tensorrt_runtime import fake_plan

Ort = Callable[..., FakeOnnxRuntime]
ON_CPU = ["onnxruntime cpu fp32", "onnxruntime cpu fp16"]


@pytest.fixture
def bundle(bundle: Bundle) -> Bundle:
    """A bundle of two precisions, both computed in float32 here."""
    manifest = bundle.manifest
    full = bundle.graph("fp32")
    half = msgspec.structs.replace(full, precision="fp16", file="image_encoder.fp16.onnx")
    shutil.copy(bundle.file(full.file), bundle.file(half.file))
    files = {**manifest.files, half.file: manifest.files[full.file]}
    both = msgspec.structs.replace(manifest, graphs=(*manifest.graphs, half), files=files)
    write_atomic(bundle.path / MANIFEST, encode_manifest(both))
    return Bundle.open(bundle.path)


def names(bundle: Bundle, backend: str = "auto") -> list[str]:
    with open_candidates(bundle, backend) as engines:
        return [engine.name for engine in engines]


def test_every_engine_is_checked_behind_the_graphs(bundle: Bundle, gpu: FakeCudaRuntime, ort: Ort):
    ort(CUDA)
    for batch in ((1, 1, 1), (2, 8, 16)):
        add_engine(bundle, batch=batch)
    add_engine(bundle, precision="fp16")
    built = [f"TensorRT 10.3.0 {name}" for name in ("fp32 1:1:1", "fp32 2:8:16", "fp16 1:1:8")]
    with open_candidates(bundle) as engines:
        stages = check_golden(bundle, engines)
    assert [stage.stage for stage in stages] == ["preprocessing", *ON_CPU, *built] and all(stages)
    assert names(bundle, "tensorrt") == built and names(bundle, "cpu") == ON_CPU and not gpu.live


def test_a_wrong_engine_that_would_only_answer_other_batches_is_found(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Ort
):
    ort(CUDA)
    add_engine(bundle, batch=(1, 1, 1))
    sound = add_engine(bundle, batch=(8, 8, 8))
    (bundle.path / "other.onnx").write_bytes(wrong_graph(bundle))
    plan = fake_plan(bundle.path / "other.onnx", version="10.3.0", batch=(8, 8, 8))
    write_engine(bundle, plan, key=sound.key, built=sound.sidecar.built, seconds=1, layers=1)
    with open_candidates(bundle) as engines:
        stages = check_golden(bundle, engines)
    assert [stage.stage for stage in stages if not stage] == ["TensorRT 10.3.0 fp32 8:8:8"]


def wrong_graph(bundle: Bundle) -> bytes:
    """The float32 graph with one large weight turned around."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(bundle.file(bundle.graph("fp32").file))
    weight = max(model.graph.initializer, key=lambda one: int(np.prod(one.dims)))
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    return bytes(model.SerializeToString())


def test_a_precision_without_an_engine_is_checked_on_its_graph_alone(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Ort
):
    ort(available=(CPU,))  # as JetPack's install has it
    add_engine(bundle, precision="fp16")
    assert names(bundle) == [*ON_CPU, "TensorRT 10.3.0 fp16 1:1:8"]


def test_without_an_engine_that_runs_here_it_is_as_for_infer(
    bundle: Bundle, gpu: FakeCudaRuntime, ort: Ort, caplog: pytest.LogCaptureFixture
):
    ort(CUDA)
    assert names(bundle) == ["onnxruntime cuda fp32", "onnxruntime cuda fp16"]
    add_engine(bundle, gpu="Xavier")
    assert names(bundle) == ["onnxruntime cuda fp32", "onnxruntime cuda fp16"]
    assert "built on Xavier; this machine has Orin" in caplog.text
    with pytest.raises(BackendError, match="holds no fp32 engine that runs here"):
        names(bundle, "tensorrt")
