"""TensorRT for RTX parses and builds every graph; its builder needs no GPU when told what to build for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rmatk.deploy import export_source
from rmatk_export.bundle import write_bundle

pytestmark = pytest.mark.tensorrt

IMAGES = ("images", (1, 3, 32, 32), (4, 3, 32, 32), (8, 3, 32, 32))
PIXELS = ("pixels", (1, 32, 32, 3), (4, 32, 32, 3), (8, 32, 32, 3))
TOKENS = ("tokens", (1, 4), (6, 9), (16, 16))
GRAPHS = {
    "image_encoder.onnx": IMAGES,
    "image_encoder.fp16.onnx": IMAGES,
    "image_encoder.int8.onnx": IMAGES,
    "image_encoder.pixels.onnx": PIXELS,
    "image_encoder.pixels.fp16.onnx": PIXELS,
    "image_encoder.pixels.int8.onnx": PIXELS,
    "text_encoder.onnx": TOKENS,
}


@pytest.fixture(scope="module")
def trt() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed here")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_run, tiny) -> Path:
    source = export_source(tiny_run, tiny, golden=8, precisions=("fp32", "fp16", "int8"), pixels=True)
    path = tmp_path_factory.mktemp("all-precisions") / "bundle"
    write_bundle(source, path)
    return path


def parse(trt: Any, path: Path) -> tuple[Any, Any]:
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    parsed = parser.parse_from_file(str(path))
    errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]
    assert parsed and not errors, errors
    return builder, network


@pytest.mark.parametrize("capability", ["SM86", "SM89", "SM120"])
@pytest.mark.parametrize("name", GRAPHS)
def test_parses_and_builds(trt: Any, bundle: Path, name: str, capability: str):
    builder, network = parse(trt, bundle / name)
    source, *shapes = GRAPHS[name]
    assert [network.get_input(0).name, network.get_output(0).name] == [source, "embeddings"]
    assert network.get_input(0).shape[0] == network.get_output(0).shape[0] == -1
    assert tuple(network.get_output(0).shape[1:]) == (24,)
    assert network.get_output(0).dtype == trt.float32
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape(source, *shapes)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None and plan.nbytes > 10_000
