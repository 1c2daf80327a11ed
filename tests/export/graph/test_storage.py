"""Graphs whose weights lie apart, as beyond protobuf's 2 GB: here beyond a lowered limit, the whole way."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import onnx
import onnxruntime
import pytest

from rmatk.deployment.from_run import export_source
from rmatk_export.bundle_writer import write_bundle
from rmatk_export.graph import storage
from rmatk_export.graph.storage import load_graph, save_graph, weights_as_inputs
from rmatk_export.parity.bisect import bisect_stages
from rmatk_export.serving.deepstream import write_deepstream
from rmatk_export.serving.triton import TritonOptions, write_triton
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import MANIFEST, FileEntry, encode_manifest
from rmatk_runtime.errors import BackendError, BundleError, MissingExtraError
from rmatk_runtime.files import sha256_file
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.parity.reference import golden_of
from rmatk_runtime.parity.walk import check_golden
from rmatk_runtime.pictures.preprocess import preprocess
from rmatk_runtime.selection import open_candidates
from rmatk_runtime.tensorrt.build import build_engine
from rmatk_runtime.tensorrt.key import Machine
from rmatk_runtime.tensorrt.library import load_tensorrt
from rmatk_runtime.tensorrt.options import BuildOptions
from rmatk_runtime.tensorrt.store import find_engine

LIMIT = 50_000  # the tiny image graph has 350,000 bytes of weights in float32
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(autouse=True)
def lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LIMIT", LIMIT)


@pytest.fixture(scope="module")
def source(tiny_run, tiny):
    return export_source(tiny_run, tiny, golden=8, precisions=PRECISIONS, pixels=True)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("whole") / "bundle"
    write_bundle(source, path)
    return Bundle.open(path)


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("apart") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "LIMIT", LIMIT)
        report = write_bundle(source, path)
    assert all(report.stages)
    return Bundle.open(path)


@pytest.fixture
def bundle(exported: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(exported.path, tmp_path / "bundle")))


def graph_files(bundle: Bundle) -> list[str]:
    return [*(graph.file for graph in bundle.manifest.graphs), bundle.manifest.text.file]


def restated(bundle: Bundle, name: str) -> Bundle:
    """The bundle with a manifest that agrees with what ``name`` holds now."""
    file = bundle.file(name)
    entry = FileEntry(size=file.stat().st_size, sha256=sha256_file(file))
    manifest = msgspec.structs.replace(bundle.manifest, files={**bundle.manifest.files, name: entry})
    (bundle.path / MANIFEST).write_bytes(encode_manifest(manifest))
    return Bundle.open(bundle.path)


def test_every_graph_has_its_weights_beside_it_and_nowhere_else(exported: Bundle, whole: Bundle):
    for name in graph_files(exported):
        bare = onnx.load(str(exported.file(name)), load_external_data=False)
        outside = [w for w in bare.graph.initializer if w.data_location == onnx.TensorProto.EXTERNAL]
        places = [{entry.key: entry.value for entry in weight.external_data} for weight in outside]
        assert places and {place["location"] for place in places} == {f"{name}.data"}
        assert all(int(place["offset"]) % 4096 == 0 for place in places)
        inside = [w for w in bare.graph.initializer if w.data_location != onnx.TensorProto.EXTERNAL]
        assert all(len(weight.raw_data) <= storage.SMALL for weight in inside)
        assert {f"{name}.data", name} <= exported.manifest.files.keys()
        assert exported.manifest.provenance.graph_digests.keys() >= {name, f"{name}.data"}
        assert f"{name}.data" not in whole.manifest.files


def test_the_weights_read_back_are_those_written(source, exported: Bundle, whole: Bundle):
    for name in graph_files(exported):
        apart, together = load_graph(exported.file(name)), load_graph(whole.file(name))
        assert {w.name: w.raw_data for w in apart.graph.initializer} == {
            w.name: w.raw_data for w in together.graph.initializer
        }
        assert list(apart.graph.node) == list(together.graph.node)
        onnx.checker.check_model(str(exported.file(name)), full_check=True)


def test_it_computes_to_the_bit_what_the_whole_one_does(exported: Bundle, whole: Bundle):
    for mine, theirs in zip(check(exported), check(whole), strict=True):
        assert mine and mine.max_embedding_difference == theirs.max_embedding_difference
    picture = golden_of(whole).images[0]
    answers = []
    for bundle in (exported, whole):
        with Classifier.open(bundle.path, backend="cpu") as classifier:
            answers.append(classifier.classify([picture]))
    assert answers[0] == answers[1]


def check(bundle: Bundle):
    with open_candidates(bundle, "cpu") as engines:
        return check_golden(bundle, engines)


@pytest.mark.parametrize("harm", ["missing", "altered", "truncated"])
def test_weights_that_are_not_those_of_the_manifest_are_refused(bundle: Bundle, harm: str):
    file = bundle.file("image_encoder.onnx.data")
    data = bytearray(file.read_bytes())
    file.unlink()
    if harm == "altered":
        data[-1] ^= 1
        file.write_bytes(data)
    elif harm == "truncated":
        file.write_bytes(data[:-1])
    with pytest.raises(
        BundleError, match=r"image_encoder\.onnx\.data (is missing|was altered|has \d+ bytes)"
    ):
        Bundle.open(bundle.path)


def test_a_changed_weight_is_bisected(bundle: Bundle, source):
    name = "image_encoder.int8.onnx"
    model = load_graph(bundle.file(name))
    weight = next(w for w in model.graph.initializer if w.name == "blocks.1.mlp_in.weight.int8")
    weight.raw_data = bytes(reversed(weight.raw_data))
    save_graph(model, bundle.file(name))
    changed = restated(bundle, f"{name}.data")
    golden = golden_of(changed)
    spec = changed.manifest.preprocess
    tensors = dict(zip(golden.names, (preprocess(image, spec) for image in golden.images), strict=True))
    with open_candidates(changed, "cpu") as engines:
        stages = check_golden(changed, engines)
        (found,) = bisect_stages(changed, engines, stages, tensors.__getitem__)
    assert found.departs is not None and found.departs.node == "blocks.1.mlp_in"


def test_servers_get_the_weights_with_the_graph(exported: Bundle, tmp_path: Path):
    write_triton(exported, tmp_path / "r", TritonOptions("birds"))
    write_deepstream(exported, tmp_path / "d")
    for folder, name in (
        (tmp_path / "r" / "birds_image_encoder" / "1", "model"),
        (tmp_path / "d", "classifier"),
    ):
        moved = shutil.copytree(folder, tmp_path / f"{name}-moved")
        assert (moved / f"{name}.onnx.data").stat().st_size > LIMIT
        onnxruntime.InferenceSession(moved / f"{name}.onnx")


def test_engines_depend_on_the_weights(exported: Bundle, whole: Bundle):
    for name in graph_files(exported):
        digest = exported.manifest.graph_digest(name)
        assert digest not in {entry.sha256 for entry in exported.manifest.files.values()}
        other = dict(exported.manifest.files)
        other[f"{name}.data"] = msgspec.structs.replace(other[f"{name}.data"], sha256="e" * 64)
        assert msgspec.structs.replace(exported.manifest, files=other).graph_digest(name) != digest
        assert whole.manifest.graph_digest(name) == whole.manifest.files[name].sha256


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensorrt_finds_them_and_an_engine_of_other_weights_is_refused(bundle: Bundle, precision: str):
    try:
        trt = load_tensorrt("tensorrt_rtx")
    except MissingExtraError as error:
        pytest.skip(error.message)
    options = BuildOptions(compute_capabilities=("8.9",))
    engine = build_engine(bundle, bundle.graph(precision), trt, options, gpu=None)
    ada = Machine(engine.key.machine, "NVIDIA L4", "8.9", {"tensorrt_rtx": trt.version})
    assert len(engine.read()) > 10_000 and find_engine(bundle, ada, precision=precision) == engine
    name = f"{bundle.graph(precision).file}.data"
    data = bytearray(bundle.file(name).read_bytes())
    data[-1] ^= 1
    bundle.file(name).write_bytes(data)
    with pytest.raises(BackendError, match="built from another"):
        find_engine(restated(bundle, name), ada, precision=precision)


def test_a_graph_for_the_checker_has_no_large_weights(source, exported: Bundle):
    model = load_graph(exported.file("image_encoder.onnx"))
    bare = weights_as_inputs(model)
    assert bare.ByteSize() < LIMIT < model.ByteSize()
    names = {value.name for value in bare.graph.input} | {weight.name for weight in bare.graph.initializer}
    assert names == {weight.name for weight in model.graph.initializer} | {"images"}
    assert model.graph.input[0].name == "images" and len(model.graph.input) == 1  # left as it was


def test_what_stays_below_the_limit_is_one_file(tmp_path: Path, whole: Bundle, monkeypatch):
    monkeypatch.setattr(storage, "LIMIT", 10**9)
    save_graph(load_graph(whole.file("image_encoder.onnx")), tmp_path / "graph.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.onnx"]
    assert (tmp_path / "graph.onnx").read_bytes() == whole.file("image_encoder.onnx").read_bytes()
