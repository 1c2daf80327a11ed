"""int8 graphs: symmetric, per channel, calibrated, within the budget; blocks stay float when it demands."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from rmatk.deploy import export_source
from rmatk_export import quantise as module
from rmatk_export.bundle import write_bundle
from rmatk_export.calibrate import WEIGHT_MAX, Int8Product, _compensated, calibrate
from rmatk_export.checks import checked
from rmatk_export.fold import fold
from rmatk_export.graph import image_graph
from rmatk_export.quantise import CalibrationPhotos, quantise, quantise_within_budget
from rmatk_runtime.errors import ExportError


@pytest.fixture(scope="module")
def int8_source(tiny_run, tiny):
    return export_source(tiny_run, tiny, golden=8, precisions=("fp32", "int8"))


@pytest.fixture(scope="module")
def model(int8_source) -> onnx.ModelProto:
    return image_graph(fold(int8_source.image))


@pytest.fixture(scope="module")
def int8(int8_source, model) -> dict[str, Int8Product]:
    return calibrate(model, int8_source.calibration.images)


def test_steps_are_numpys(int8_source, model, int8):
    """Against float64: weights per channel in 7 bits, and no step of the input errs less than the chosen."""
    images = int8_source.calibration.images
    original = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    weight = original["blocks.1.wide_in.weight"].astype(np.float64)
    found = int8["blocks.1.wide_in.matmul"]
    steps = np.abs(weight).max(axis=0) / 63
    np.testing.assert_allclose(found.weight_steps, steps, rtol=1e-6)
    assert found.weight.dtype == np.int8 and 56 < np.abs(found.weight).max() <= 63
    nearest = np.rint(weight / steps)

    probe = copy.deepcopy(model)
    probe.graph.output.append(onnx.ValueInfoProto(name="blocks.1.norm_1"))
    (rows,) = session(probe).run(["blocks.1.norm_1"], {"images": images})
    rows = rows.reshape(-1, rows.shape[-1]).astype(np.float64)

    def error(step: float, int8: np.ndarray = nearest) -> float:
        held = np.clip(np.rint(rows / step), -127, 127) * step
        return np.square(held @ (int8 * steps) - rows @ weight).mean()

    widest = np.abs(rows).max() / 127
    assert 0.39 * widest < found.input_step <= widest * (1 + 1e-6)
    assert error(found.input_step) <= 1.01 * min(error(widest * share) for share in np.linspace(0.4, 1, 13))
    assert error(found.input_step, found.weight) < error(found.input_step)


def test_zero_points_are_zero_and_weights_have_a_step_per_channel(int8_source, model, int8):
    graph = checked(quantise(model, int8), fold(int8_source.image), "int8").graph
    held = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [held[node.input[2]] for node in nodes]
    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    weights = [held[node.input[0]] for node in nodes if node.input[0] in held]
    assert len(weights) == 4 * 3  # wide_in, attention_out, mlp_in, wide_out in three blocks
    assert all(weight.dtype == np.int8 and np.abs(weight).max() <= 63 for weight in weights)
    assert not {name for name in held if name.endswith((".wide_in.weight", ".wide_out.weight"))}


def test_only_the_products_of_blocks_are_quantised(model, int8):
    graph = quantise(model, int8, keep=[1]).graph
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

    def block_2_breaks(graph, int8, *, keep=()):
        result = sound(graph, int8, keep=keep)
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


def test_int8_products_do_not_overflow_in_the_engine(int8_source, model, int8):
    """Pairs of products fit 16 bits, so that a session as servers set it up gives what the graph says."""
    images = int8_source.calibration.images
    graph = quantise(model, int8)
    for step in graph.graph.initializer:  # finer steps, by which inputs reach the ends of their range
        if step.name.endswith(".step"):
            finer = numpy_helper.to_array(step) / np.float32(8)
            step.CopyFrom(numpy_helper.from_array(finer, step.name))
    plain = onnxruntime.SessionOptions()  # Q, DQ and float products, as the graph says
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = session(graph, plain).run(None, {"images": images})
    (found,) = session(graph).run(None, {"images": images})
    assert np.abs(found - expected).max() < 1e-2  # a rounding apart here and there


def session(model: onnx.ModelProto, options: Any = None) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def test_rounding_makes_up_for_its_own_errors() -> None:
    """Against the elimination of OBQ: channel by channel is taken out of the inverse moments."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(400, 150)) @ rng.normal(size=(150, 150)) / 12).astype(np.float32)
    weight = rng.normal(size=(150, 9)).astype(np.float32)
    steps = np.abs(weight).max(axis=0) / WEIGHT_MAX
    found = _compensated(weight, steps, rows)

    moments = rows.astype(np.float64).T @ rows.astype(np.float64) / len(rows)
    inverse = np.linalg.inv(moments + 0.01 * np.diag(moments).mean() * np.eye(150))
    left, expected = weight.astype(np.float64), np.zeros((150, 9))
    for k in range(150):
        expected[k] = np.clip(np.rint(left[k] / steps), -WEIGHT_MAX, WEIGHT_MAX)
        left[k:] -= np.outer(inverse[k:, k], left[k] - expected[k] * steps) / inverse[k, k]
        inverse -= np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
    assert (found == expected).mean() > 0.999  # a tie may fall either way

    def error(int8: np.ndarray) -> float:
        return float(np.square(rows @ (int8 * steps) - rows @ weight).mean())

    assert error(found) < 0.5 * error(np.rint(weight / steps))
