"""The real builder: TensorRT for RTX parses and builds every graph of a bundle, and needs no GPU for it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import onnx
import pytest

from rmatk.deployment.from_run import export_source
from rmatk_export.bundle_writer import write_bundle
from rmatk_export.fold import fold
from rmatk_export.graph.encoder import text_graph
from rmatk_export.int8.graph import quantise
from rmatk_export.int8.ranges import calibrate
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError, MissingExtraError
from rmatk_runtime.tensorrt.build import build_engine, build_plan, image_profile
from rmatk_runtime.tensorrt.key import BatchProfile, Machine
from rmatk_runtime.tensorrt.library import TensorRt, load_tensorrt
from rmatk_runtime.tensorrt.messages import Messages
from rmatk_runtime.tensorrt.network import parse_network
from rmatk_runtime.tensorrt.options import BuildOptions
from rmatk_runtime.tensorrt.store import find_engine, survey
from tests.runtime.fakes.tensorrt_builder import MEMBERS

pytestmark = pytest.mark.tensorrt

IMAGE_GRAPHS = [(p, kind) for p in ("fp32", "fp16", "int8") for kind in ("images", "pixels")]
TOKENS = ((1, 4), (6, 9), (16, 16))  # both axes are dynamic


@pytest.fixture(scope="module")
def trt() -> TensorRt:
    try:
        return load_tensorrt("tensorrt_rtx")
    except MissingExtraError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_run, tiny) -> Bundle:
    source = export_source(tiny_run, tiny, golden=8, precisions=("fp32", "fp16", "int8"), pixels=True)
    path = tmp_path_factory.mktemp("all-precisions") / "bundle"
    write_bundle(source, path)
    return Bundle.open(path)


@pytest.fixture
def bundle(exported: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(exported.path, tmp_path / "bundle")))


def kinds_in(network) -> set[str]:
    """The types of all that a network's layers give."""
    outputs = [network.get_layer(number).get_output(0).dtype for number in range(network.num_layers)]
    return {str(kind).removeprefix("DataType.") for kind in outputs}


def test_what_the_fakes_are_shaped_on_is_what_the_module_has(trt: TensorRt):
    for kind, members in MEMBERS.items():
        real = set(dir(getattr(trt.module, kind)))
        assert set(members.get("rtx 1.7.1", "").split()) <= real, kind


def graph_of(bundle: Bundle, precision: str, kind: str):
    (graph,) = [g for g in bundle.manifest.graphs if (g.precision, g.input) == (precision, kind)]
    return graph


@pytest.mark.parametrize("capability", ["8.6", "8.9", "12.0"])
@pytest.mark.parametrize(("precision", "kind"), IMAGE_GRAPHS)
def test_every_image_graph_builds(trt: TensorRt, exported: Bundle, precision, kind, capability):
    graph, options = graph_of(exported, precision, kind), BuildOptions(compute_capabilities=(capability,))
    profiles = {kind: image_profile(exported.manifest.preprocess, graph, BatchProfile(1, 4, 8))}
    plan = build_plan(trt, exported.file(graph.file), profiles, options, gpu=None)
    assert len(plan.data) > 10_000 and plan.seconds > 0 and plan.layers > 100


@pytest.fixture(scope="module")
def text_graphs(tmp_path_factory: pytest.TempPathFactory, tiny_source, exported: Bundle) -> dict[str, Path]:
    """The bundle's own text graph, which is float32, and the others written for this."""
    folder = tmp_path_factory.mktemp("text")
    tower = fold(tiny_source.text)
    plain = text_graph(tower)
    tokens = tiny_source.class_tokens.reshape(-1, tiny_source.class_tokens.shape[-1])
    onnx.save(text_graph(tower, half=True), folder / "fp16.onnx")
    onnx.save(quantise(plain, calibrate(plain, tokens)), folder / "int8.onnx")
    fp32 = exported.file(exported.manifest.text.file)
    return {"fp32": fp32, "fp16": folder / "fp16.onnx", "int8": folder / "int8.onnx"}


@pytest.mark.parametrize("capability", ["8.6", "8.9", "12.0"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_text_graph_builds_with_two_dynamic_axes(trt: TensorRt, text_graphs, precision, capability):
    options = BuildOptions(compute_capabilities=(capability,))
    plan = build_plan(trt, text_graphs[precision], {"tokens": TOKENS}, options, gpu=None)
    assert len(plan.data) > 10_000 and plan.layers > 100


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_text_graph_keeps_names_types_both_axes_and_its_precision(trt: TensorRt, text_graphs, precision):
    messages = Messages(trt)
    network = parse_network(trt, trt.module.Builder(messages.log), text_graphs[precision], messages)
    tokens, embeddings = network.get_input(0), network.get_output(0)
    assert (network.num_inputs, network.num_outputs) == (1, 1)
    assert (tokens.name, embeddings.name) == ("tokens", "embeddings")
    assert tuple(tokens.shape) == (-1, -1) and tokens.dtype == trt.module.int64
    assert tuple(embeddings.shape) == (-1, 24) and embeddings.dtype == trt.module.float32
    assert (
        kinds_in(network) & {"HALF", "INT8"} == {"fp32": set(), "fp16": {"HALF"}, "int8": {"INT8"}}[precision]
    )


@pytest.mark.parametrize(("precision", "kind"), IMAGE_GRAPHS)
def test_inputs_and_outputs_keep_names_types_and_the_dynamic_batch(trt, exported, precision, kind):
    messages = Messages(trt)
    builder = trt.module.Builder(messages.log)
    network = parse_network(trt, builder, exported.file(graph_of(exported, precision, kind).file), messages)
    images, embeddings = network.get_input(0), network.get_output(0)
    assert (network.num_inputs, network.num_outputs) == (1, 1)
    assert (images.name, embeddings.name) == (kind, "embeddings")
    assert tuple(images.shape) == ((-1, 3, 32, 32) if kind == "images" else (-1, 32, 32, 3))
    assert images.dtype == (trt.module.float32 if kind == "images" else trt.module.uint8)
    assert tuple(embeddings.shape) == (-1, 24) and embeddings.dtype == trt.module.float32


def test_lower_precisions_are_really_in_the_network(trt: TensorRt, exported: Bundle):
    kinds: dict[str, set[str]] = {}
    for precision in ("fp32", "fp16", "int8"):
        messages = Messages(trt)
        builder = trt.module.Builder(messages.log)
        network = parse_network(trt, builder, exported.file(exported.graph(precision).file), messages)
        kinds[precision] = kinds_in(network)
    assert "HALF" in kinds["fp16"] and "INT8" in kinds["int8"]
    assert not {"HALF", "INT8"} & kinds["fp32"]


def test_the_sidecar_tells_what_was_built(trt: TensorRt, bundle: Bundle):
    options = BuildOptions(batch=BatchProfile(1, 2, 4), compute_capabilities=("8.9",))
    engine = build_engine(bundle, bundle.graph("fp16"), trt, options, gpu=None)
    key, sidecar = engine.key, engine.sidecar
    assert (key.flavour, key.tensorrt) == ("tensorrt_rtx", trt.version)
    assert (key.gpu, key.compute_capabilities) == (None, ("8.9",))
    assert (key.precision, key.input, key.batch) == ("fp16", "images", BatchProfile(1, 2, 4))
    assert key.onnx_sha256 == bundle.manifest.files["image_encoder.fp16.onnx"].sha256
    assert sidecar.size == len(engine.read()) and sidecar.layers > 100 and sidecar.seconds > 0
    assert sidecar.parity is None and engine.read()[:4] == b"vtrt"  # nothing put in front of the plan
    ada = Machine(key.machine, "NVIDIA L4", "8.9", {"tensorrt_rtx": trt.version})
    assert find_engine(bundle, ada, precision="fp16") == engine
    with pytest.raises(BackendError, match="has no GPU"):
        find_engine(bundle, Machine(key.machine, None, None, ada.tensorrt), precision="fp16")


def test_building_again_replaces_and_another_profile_stands_beside(trt: TensorRt, bundle: Bundle):
    first = build_engine(bundle, bundle.graph("fp32"), trt, BuildOptions(), gpu=None)
    again = build_engine(bundle, bundle.graph("fp32"), trt, BuildOptions(), gpu=None)
    assert first.path == again.path
    build_engine(bundle, bundle.graph("fp32"), trt, BuildOptions(batch=BatchProfile(2, 2, 2)), gpu=None)
    assert len(survey(bundle)) == 2


def test_an_engine_of_yesterdays_graph_is_not_used(trt: TensorRt, bundle: Bundle):
    engine = build_engine(bundle, bundle.graph("fp32"), trt, BuildOptions(), gpu=None)
    ada = Machine(engine.key.machine, "NVIDIA L4", "8.9", {"tensorrt_rtx": trt.version})
    assert find_engine(bundle, ada) == engine
    file = "image_encoder.onnx"
    other = msgspec.structs.replace(bundle.manifest.files[file], sha256="e" * 64)
    manifest = msgspec.structs.replace(bundle.manifest, files={**bundle.manifest.files, file: other})
    with pytest.raises(BackendError, match="built from another image_encoder.onnx") as caught:
        find_engine(Bundle(bundle.path, manifest), ada)
    assert caught.value.hint == f"rmatk export {bundle.path} --trt --precision fp32"


def test_a_graph_that_the_parser_refuses_is_told_with_its_node(trt: TensorRt, exported: Bundle, tmp_path):
    model = onnx.load(exported.file("image_encoder.onnx"))
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type = "Softmux"
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(BackendError, match="cannot read .*broken.onnx") as caught:
        build_plan(trt, tmp_path / "broken.onnx", {}, BuildOptions(), gpu=None)
    assert node.name in caught.value.message and "Softmux" in caught.value.message
    (tmp_path / "cut.onnx").write_bytes(exported.file("image_encoder.onnx").read_bytes()[:1000])
    with pytest.raises(BackendError, match="cannot read .*cut.onnx"):
        build_plan(trt, tmp_path / "cut.onnx", {}, BuildOptions(), gpu=None)


def test_what_the_builder_refuses_is_told_in_its_words(trt: TensorRt, bundle: Bundle):
    with pytest.raises(
        BackendError, match=r"cannot build image_encoder.onnx for Turing \(7\.5\), .*: .*Turing"
    ):
        options = BuildOptions(compute_capabilities=("7.5",))
        build_engine(bundle, bundle.graph("fp32"), trt, options, gpu=None)
    assert not (bundle.path / "engines").exists()


@pytest.fixture
def interruptible() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_build_and_leaves_nothing(trt: TensorRt, bundle: Bundle):
    phases: list[str] = []

    def interrupt(phase: str, done: int, total: int) -> None:
        phases.append(phase)
        if len(phases) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(bundle, bundle.graph("fp32"), trt, BuildOptions(), gpu=None, on_progress=interrupt)
    assert not (bundle.path / "engines").exists()


def test_progress_rises_to_one(trt: TensorRt, bundle: Bundle):
    told: list[tuple[str, int, int]] = []
    graph = bundle.graph("fp32")
    build_engine(bundle, graph, trt, BuildOptions(), gpu=None, on_progress=lambda *now: told.append(now))
    shares = [done for _, done, _ in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 100 and len(set(shares)) > 10
