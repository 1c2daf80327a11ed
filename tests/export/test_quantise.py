"""int8 graphs: symmetric, per channel, calibrated, within the budget; blocks stay float when it demands."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rmatk.deploy import export_source
from rmatk_export import quantise as module
from rmatk_export.bundle import write_bundle
from rmatk_export.checks import checked
from rmatk_export.fold import fold
from rmatk_export.graph import image_graph
from rmatk_export.quantise import CalibrationPhotos, quantise, quantise_within_budget
from rmatk_runtime.backends.onnx_runtime import create_session, run_session
from rmatk_runtime.errors import ExportError


@pytest.fixture(scope="module")
def int8_source(tiny_run, tiny):
    return export_source(tiny_run, tiny, golden=8, precisions=("fp32", "int8"))


@pytest.fixture(scope="module")
def model(int8_source) -> onnx.ModelProto:
    return image_graph(fold(int8_source.image))


def scales_and_zeros(graph: onnx.GraphProto) -> list[tuple[np.ndarray, np.ndarray]]:
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return [(weights[node.input[1]], weights[node.input[2]]) for node in nodes]


def test_zero_points_are_zero_and_weights_have_a_scale_per_channel(int8_source, model):
    graph = checked(quantise(model, int8_source.calibration.images), fold(int8_source.image)).graph
    pairs = scales_and_zeros(graph)
    assert pairs and all(zero.dtype == np.int8 and not zero.any() for _, zero in pairs)
    held = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    per_channel = [
        (held[node.input[0]], held[node.input[1]])
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in held
    ]
    assert len(per_channel) == 4 * 3  # wide_in, attention_out, mlp_in, wide_out in three blocks
    for weight, scale in per_channel:
        assert weight.dtype == np.int8 and scale.shape == (weight.shape[1],)
    original = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    wide = original["blocks.1.wide_in.weight"]
    weight, scale = next(
        (w, s) for w, s in per_channel if w.shape == wide.shape and s.shape == (wide.shape[1],)
    )
    assert np.abs(weight * scale - wide).max() <= scale.max() / 2 + 1e-7 or wide.shape == weight.shape


def test_only_the_products_of_blocks_are_quantised(int8_source, model):
    graph = quantise(model, int8_source.calibration.images, keep=[1]).graph
    made_by = {output: node for node in graph.node for output in node.output}

    def quantised(node: onnx.NodeProto) -> bool:
        return any(made_by[name].op_type == "DequantizeLinear" for name in node.input if name in made_by)

    touched = {node.name for node in graph.node if quantised(node) and node.op_type != "DequantizeLinear"}
    parts = ("wide_in", "attention_out", "mlp_in", "wide_out")
    assert touched == {f"blocks.{block}.{part}.matmul" for block in (0, 2) for part in parts}
    assert Counter(node.op_type for node in graph.node)["Conv"] == 1


def test_the_budget_decides_which_blocks_stay_float(int8_source, model, monkeypatch):
    calibration, classes = int8_source.calibration, int8_source.classes
    _, chosen = quantise_within_budget(model, calibration, classes)
    assert chosen.float_blocks == () and chosen.accuracy_int8 >= chosen.accuracy_fp32 - module.BUDGET

    sound = module.quantise

    def block_2_breaks(graph, images, *, keep=()):
        result = sound(graph, images, keep=keep)
        if 2 not in keep:
            bias = next(w for w in result.graph.initializer if w.name == "blocks.2.wide_out.bias")
            broken = numpy_helper.to_array(bias) + np.linspace(-9, 9, 48, dtype=np.float32)
            bias.CopyFrom(numpy_helper.from_array(broken, bias.name))
        return result

    monkeypatch.setattr(module, "quantise", block_2_breaks)
    _, chosen = quantise_within_budget(model, calibration, classes)
    assert chosen.float_blocks == (2,)

    labels = np.full_like(calibration.labels, -1)
    monkeypatch.setattr(module, "BUDGET", -1.0)  # int8 would have to be better than float by a whole
    with pytest.raises(ExportError, match="whichever blocks stay float"):
        quantise_within_budget(model, dataclasses.replace(calibration, labels=labels), classes)


def test_a_bundle_with_int8_passes_its_gate_and_says_what_was_chosen(int8_source, tmp_path: Path):
    report = write_bundle(int8_source, tmp_path / "bundle")
    assert [s.stage for s in report.stages if "int8" in s.stage] == ["onnxruntime cpu int8"]
    assert report.quantisation is not None and report.quantisation.images == len(
        int8_source.calibration.labels
    )
    with pytest.raises(ExportError, match="int8 needs photos"):
        write_bundle(dataclasses.replace(int8_source, calibration=None), tmp_path / "other")


def test_calibration_takes_training_photos_and_is_judged_on_validation_ones(int8_source, tiny_run):
    calibration: CalibrationPhotos = int8_source.calibration
    assert len(calibration.images) == len(tiny_run.record.train_files)
    assert len(calibration.shots) == len(calibration.labels) == len(tiny_run.record.validation_files)


def test_int8_products_do_not_overflow_in_the_engine(int8_source, model, tmp_path: Path):
    """The kernel that ONNX Runtime takes by itself on x86 without VNNI is off by tenths on such weights."""
    import onnxruntime

    path = tmp_path / "int8.onnx"
    onnx.save(quantise(model, int8_source.calibration.images), str(path))
    plain = onnxruntime.SessionOptions()  # Q, DQ and float products, as the graph says
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = run_session(
        onnxruntime.InferenceSession(str(path), plain, providers=["CPUExecutionProvider"]),
        int8_source.calibration.images,
    )
    found = run_session(create_session(path), int8_source.calibration.images)
    assert np.abs(found - expected).max() < 1e-2  # a rounding apart here and there; with overflow 6e-2
