"""A model repository: as Triton's schema has it, with the bundle's answers, or not there."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from rmatk_export.bundle_writer import write_bundle
from rmatk_export.graph.ends import classifier_graph
from rmatk_export.serving import triton
from rmatk_export.serving.triton import TritonOptions, write_triton
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.errors import BackendError, BundleError, ExportError, ParityError, StorageError
from rmatk_runtime.pictures.preprocess import resize
from rmatk_runtime.tensorrt.key import BatchProfile, Machine
from rmatk_runtime.tensorrt.store import write_engine
from tests.runtime.fakes.engine_keys import key_of

TYPES = {"TYPE_UINT8": "tensor(uint8)", "TYPE_FP32": "tensor(float)"}
NAMES = {"birds", "birds_image_encoder", "birds_classifier"}
HERE = Machine("aarch64", "Orin", "8.7", {"tensorrt": "10.3.0"})


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def repository(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "repository"
    write_triton(bundle, path, TritonOptions("birds", batch=BatchProfile(1, 4, 16)))
    return path


def config(repository: Path, model: str) -> model_config_pb2.ModelConfig:
    """Parsed by Triton's own schema, which knows every field and no other."""
    return text_format.Parse(
        (repository / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )


def kind(tensor) -> str:
    return model_config_pb2.DataType.Name(tensor.data_type)


def test_the_files_are_those_that_triton_looks_for(repository: Path):
    files = {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}
    assert files == {
        "rmatk-triton.json",
        "birds_image_encoder/config.pbtxt",
        "birds_image_encoder/1/model.onnx",
        "birds_classifier/config.pbtxt",
        "birds_classifier/1/model.onnx",
        "birds_classifier/labels.txt",
        "birds/config.pbtxt",
        "birds/labels.txt",
    }
    assert (repository / "birds" / "1").is_dir()  # an ensemble has a version too, and nothing in it
    assert [config(repository, name).name for name in sorted(NAMES)] == sorted(NAMES)


@pytest.mark.parametrize("model", ["birds_image_encoder", "birds_classifier"])
def test_tensors_are_those_of_the_graph(repository: Path, model: str):
    written = config(repository, model)
    assert (written.backend, written.default_model_filename) == ("onnxruntime", "model.onnx")
    session = onnxruntime.InferenceSession(repository / model / "1" / "model.onnx")
    for stated, held in ((written.input, session.get_inputs()), (written.output, session.get_outputs())):
        described = [(t.name, TYPES[kind(t)], ["N", *t.dims]) for t in stated]
        assert described == [(t.name, t.type, t.shape) for t in held]


def test_the_ensemble_fits_its_parts(repository: Path, bundle: Bundle):
    ensemble = config(repository, "birds")
    assert ensemble.platform == "ensemble" and not ensemble.backend
    known = {tensor.name: (kind(tensor), list(tensor.dims)) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        part = config(repository, step.model_name)
        assert part.max_batch_size == ensemble.max_batch_size == 16
        assert {t.name: known[step.input_map[t.name]] for t in part.input} == {
            t.name: (kind(t), list(t.dims)) for t in part.input
        }
        known |= {step.output_map[t.name]: (kind(t), list(t.dims)) for t in part.output}
    (output,) = ensemble.output
    assert known[output.name] == (kind(output), list(output.dims)) == ("TYPE_FP32", [3])
    for part in ("birds", "birds_classifier"):
        (output,) = config(repository, part).output
        labels = (repository / part / output.label_filename).read_text().splitlines()
        assert tuple(labels) == bundle.classes().names


def test_requests_are_put_together(repository: Path, bundle: Bundle, tmp_path: Path):
    for model in ("birds_image_encoder", "birds_classifier"):
        written = config(repository, model)
        assert list(written.dynamic_batching.preferred_batch_size) == [4, 16]
        assert written.dynamic_batching.max_queue_delay_microseconds == 0
    write_triton(bundle, tmp_path / "one", TritonOptions("one", batch=BatchProfile(1, 1, 1)))
    assert not config(tmp_path / "one", "one_classifier").HasField("dynamic_batching")


def served(repository: Path, pixels: np.ndarray) -> np.ndarray:
    """What the ensemble answers, its steps carried out by ONNX Runtime."""
    values = {"pixels": pixels}
    for step in config(repository, "birds").ensemble_scheduling.step:
        session = onnxruntime.InferenceSession(repository / step.model_name / "1" / "model.onnx")
        feeds = {name: values[tensor] for name, tensor in step.input_map.items()}
        names = list(step.output_map)
        values |= dict(zip(map(step.output_map.get, names), session.run(names, feeds), strict=True))
    return values["probabilities"]


def test_it_answers_as_pytorch_did(repository: Path, bundle: Bundle):
    golden, manifest = bundle.golden(), bundle.manifest
    assert golden is not None
    pixels = np.stack([resize(picture, manifest.preprocess) for picture in golden.images])
    wanted = LabelHead(bundle.classes(), manifest.decision).probabilities(golden.embeddings)
    assert np.abs(served(repository, pixels) - wanted).max() < 1e-5
    assert np.abs(served(repository, 255 - pixels) - wanted).max() > 1e-2


def test_the_record_says_what_was_checked(repository: Path, bundle: Bundle):
    record = json.loads((repository / "rmatk-triton.json").read_text())
    assert [(stage["stage"], stage["passed"]) for stage in record["stages"]] == [
        ("encoder fp32", True),
        ("classifier", True),
    ]
    files = bundle.manifest.files
    assert record["graph_sha256"] == files["image_encoder.onnx"].sha256
    assert record["labels_sha256"] == files["classes.npz"].sha256


def test_the_reject_threshold_can_be_asked_for(bundle: Bundle, tmp_path: Path):
    decision = msgspec.structs.replace(bundle.manifest.decision, reject_threshold=0.375)
    with_threshold = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, decision=decision))
    write_triton(with_threshold, tmp_path / "r", TritonOptions("birds"))
    for model in ("birds", "birds_classifier"):
        assert config(tmp_path / "r", model).parameters["reject_threshold"].string_value == "0.375"


def test_a_classifier_that_answers_otherwise_is_not_left(bundle: Bundle, tmp_path: Path, monkeypatch):
    def hotter(classes, decision):
        return classifier_graph(classes, msgspec.structs.replace(decision, temperature=2.0))

    monkeypatch.setattr(triton, "classifier_graph", hotter)
    with pytest.raises(
        ParityError, match=r"does not answer as the bundle does.*classifier: a probability of"
    ):
        write_triton(bundle, tmp_path / "r", TritonOptions("birds"))
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_with_another_normalisation_is_not_left(bundle: Bundle, tmp_path: Path, monkeypatch):
    real = triton.with_pixels

    def shifted(model, spec):
        return real(model, msgspec.structs.replace(spec, mean=(0.4, 0.5, 0.5)))

    monkeypatch.setattr(triton, "with_pixels", shifted)
    with pytest.raises(ParityError, match="encoder fp32"):
        write_triton(bundle, tmp_path / "r", TritonOptions("birds"))
    assert list(tmp_path.iterdir()) == []


def test_labels_that_a_file_of_lines_cannot_hold(bundle: Bundle, tmp_path: Path, monkeypatch):
    classes = bundle.classes()
    odd = ClassMatrix(("red\nstripe", *classes.names[1:]), classes.embeddings)
    monkeypatch.setattr(Bundle, "classes", lambda self: odd)
    with pytest.raises(ExportError, match=r"the label 'red\\nstripe' cannot be written"):
        write_triton(bundle, tmp_path / "r", TritonOptions("birds"))
    assert list(tmp_path.iterdir()) == []


def test_names_and_batches_that_triton_cannot_use():
    for name in ("", "../birds", "a/b", 'b"', "two words"):
        with pytest.raises(ExportError, match="cannot be a model's name"):
            TritonOptions(name)
    with pytest.raises(ExportError, match="begin at 1, the profile 2:4:8 at 2") as caught:
        TritonOptions("birds", batch=BatchProfile(2, 4, 8))
    assert caught.value.hint == "--batch 1:4:8"


def test_only_a_repository_of_ours_is_replaced(bundle: Bundle, repository: Path, tmp_path: Path):
    ours = Path(shutil.copytree(repository, tmp_path / "ours"))
    write_triton(bundle, ours, TritonOptions("fish"))
    assert not (ours / "birds").exists() and (ours / "fish").is_dir()
    (tmp_path / "theirs" / "resnet").mkdir(parents=True)
    for taken in (tmp_path / "theirs", bundle.path):
        with pytest.raises(StorageError, match="holds other files"):
            write_triton(bundle, taken, TritonOptions("birds"))
    assert (tmp_path / "theirs" / "resnet").is_dir()


def test_a_bundle_without_golden_pictures_is_checked_on_noise(tiny_source, tmp_path: Path):
    write_bundle(dataclasses.replace(tiny_source, ship_golden=False), tmp_path / "bundle")
    record = write_triton(Bundle.open(tmp_path / "bundle"), tmp_path / "r", TritonOptions("birds"))
    assert [(stage.images, bool(stage)) for stage in record.stages] == [(8, True), (8, True)]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_runs_at_the_level_that_is_set(every_precision: Path, tmp_path: Path, precision: str):
    """Triton's level 1 is ONNX Runtime's extended; at full, its CPU crashes on float16 (hence a process)."""
    write_triton(Bundle.open(every_precision), tmp_path / "r", TritonOptions("birds"), precision=precision)
    assert config(tmp_path / "r", "birds_image_encoder").optimization.graph.level == 1
    code = (
        "import sys, numpy as np, onnxruntime as ort\n"
        "options = ort.SessionOptions()\n"
        "options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED\n"
        "session = ort.InferenceSession(sys.argv[1], options)\n"
        "(found,) = session.run(None, {'pixels': np.zeros((2, 32, 32, 3), np.uint8)})\n"
        "assert found.shape == (2, 24) and np.isfinite(found).all()\n"
    )
    graph = tmp_path / "r" / "birds_image_encoder" / "1" / "model.onnx"
    subprocess.run([sys.executable, "-c", code, str(graph)], check=True)


def test_an_engine_needs_a_graph_on_pixels(bundle: Bundle, tmp_path: Path):
    with pytest.raises(BundleError, match="holds no fp32 graph on pixels") as caught:
        write_triton(bundle, tmp_path / "r", TritonOptions("birds", "tensorrt"))
    assert caught.value.hint is not None and "--pixels" in caught.value.hint


class OnOnnxRuntime(Backend):
    """An engine on pixels, with ONNX Runtime as its arithmetic."""

    name = "TensorRT"

    def __init__(self, graph: Path) -> None:
        self.session = onnxruntime.InferenceSession(graph)

    def embed(self, images):
        return self.session.run(None, {"pixels": images})[0]


class TestWithAnEngine:
    """Triton's TensorRT backend takes the bundle's engine on pixels."""

    @pytest.fixture
    def bundle(self, tiny_source, tmp_path: Path) -> Bundle:
        write_bundle(dataclasses.replace(tiny_source, pixels=True), tmp_path / "bundle")
        return Bundle.open(tmp_path / "bundle")

    @pytest.fixture(autouse=True)
    def here(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rmatk_runtime.tensorrt.store.this_machine", lambda: HERE)
        graph = bundle.file("image_encoder.pixels.onnx")
        monkeypatch.setattr(triton.TensorRtBackend, "open", lambda engine: OnOnnxRuntime(graph))

    def build(self, bundle: Bundle, **changes: object) -> None:
        wanted = {"input": "pixels", "batch": BatchProfile(1, 4, 32), **changes}
        changed = key_of(bundle, "image_encoder.pixels.onnx", **wanted)
        write_engine(bundle, b"the plan", key=changed, built="today", seconds=1.0, layers=9)

    def test_the_plan_is_served_with_its_own_batches(self, bundle: Bundle, tmp_path: Path):
        self.build(bundle)
        record = write_triton(bundle, tmp_path / "r", TritonOptions("birds", "tensorrt"))
        assert record.backend == "tensorrt" and all(record.stages)
        encoder = config(tmp_path / "r", "birds_image_encoder")
        assert (encoder.backend, encoder.default_model_filename) == ("tensorrt", "model.plan")
        assert (tmp_path / "r" / "birds_image_encoder" / "1" / "model.plan").read_bytes() == b"the plan"
        assert encoder.max_batch_size == config(tmp_path / "r", "birds").max_batch_size == 32
        assert list(encoder.dynamic_batching.preferred_batch_size) == [4, 32]
        assert config(tmp_path / "r", "birds_classifier").backend == "onnxruntime"

    def test_without_an_engine_the_command_is_named(self, bundle: Bundle, tmp_path: Path):
        self.build(bundle, input="images")
        with pytest.raises(BackendError, match="holds no fp32 engine on pixels that runs here") as caught:
            write_triton(bundle, tmp_path / "r", TritonOptions("birds", "tensorrt"))
        assert caught.value.hint == f"rmatk export {bundle.path} --trt --precision fp32 --pixels"
        assert not (tmp_path / "r").exists()

    def test_plans_that_triton_cannot_use(self, bundle: Bundle, tmp_path: Path, monkeypatch):
        self.build(bundle, batch=BatchProfile(2, 4, 8))
        with pytest.raises(ExportError, match="begin at 1"):
            write_triton(bundle, tmp_path / "r", TritonOptions("birds", "tensorrt"))
        shutil.rmtree(bundle.path / "engines")
        rtx = dataclasses.replace(HERE, tensorrt={"tensorrt_rtx": "1.7"})
        monkeypatch.setattr("rmatk_runtime.tensorrt.store.this_machine", lambda: rtx)
        self.build(bundle, flavour="tensorrt_rtx", tensorrt="1.7")
        with pytest.raises(BackendError, match="TensorRT for RTX, whose plans Triton does not load"):
            write_triton(bundle, tmp_path / "r", TritonOptions("birds", "tensorrt"))

    def test_an_engine_that_computes_wrongly_is_not_served(self, bundle: Bundle, tmp_path: Path, monkeypatch):
        self.build(bundle)

        class Wrong(OnOnnxRuntime):
            def embed(self, images):
                return super().embed(images[:, ::-1])

        graph = bundle.file("image_encoder.pixels.onnx")
        monkeypatch.setattr(triton.TensorRtBackend, "open", lambda engine: Wrong(graph))
        with pytest.raises(ParityError, match="encoder fp32"):
            write_triton(bundle, tmp_path / "r", TritonOptions("birds", "tensorrt"))
        assert not (tmp_path / "r").exists()
