"""int8 graphs: symmetric, per channel, calibrated on photos, with corrected biases."""

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

from rmatk_export.bundle_writer import write_bundle
from rmatk_export.fold import fold
from rmatk_export.graph.checks import checked
from rmatk_export.int8.gptq import Int8Product
from rmatk_export.int8.graph import quantise
from rmatk_export.int8.ranges import calibrate
from rmatk_runtime.errors import ExportError

PARTS = ("wide_in", "attention_out", "mlp_in", "wide_out")


@pytest.fixture(scope="module")
def int8(int8_source, model) -> dict[str, Int8Product]:
    return calibrate(model, int8_source.calibration.images)


@pytest.mark.parametrize(("part", "read"), [("wide_in", "norm_1"), ("wide_out", "join")])
def test_numbers_are_numpys(int8_source, model, int8, part: str, read: str):
    """Against float64: weights per channel in 7 bits, the range with the least error, the mean error gone."""
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    weight = weights[f"blocks.1.{part}.weight"].astype(np.float64)
    found = int8[f"blocks.1.{part}.matmul"]
    steps = np.abs(weight).max(axis=0) / 63
    np.testing.assert_allclose(found.weight_steps, steps, rtol=1e-6)
    assert found.weight.dtype == np.int8 and 56 < np.abs(found.weight).max() <= 63
    nearest = np.rint(weight / steps)

    rows = inner_value(model, f"blocks.1.{read}", int8_source.calibration.images).astype(np.float64)
    rows = rows.reshape(-1, rows.shape[-1])

    def errors(centre: float, step: float, int8: np.ndarray = nearest) -> np.ndarray:
        held = np.clip(np.rint((rows - centre) / step), -127, 127) * step
        return rows @ weight - held @ (int8 * steps)

    low, high = rows.min(), rows.max()
    shares = np.linspace(0.4, 1, 13)
    if part == "wide_in":
        tried = [(0.0, share * np.abs(rows).max() / 127) for share in shares]
        assert found.input.centre == 0.0
    else:  # GELU and its adapter's: from -0.17 to far above
        assert -0.2 < low < 0.0
        tried = [((low + share * high) / 2, (share * high - low) / 254) for share in shares]
        assert found.input.centre > 0.0
    chosen = (found.input.centre, found.input.step)
    assert min(np.abs(np.subtract(chosen, one)).max() for one in tried) < 1e-6 * high
    assert errors(*chosen).var(axis=0).mean() <= 1.01 * min(errors(*one).var(axis=0).mean() for one in tried)
    assert errors(*chosen, found.weight).var(axis=0).mean() < errors(*chosen).var(axis=0).mean()
    np.testing.assert_allclose(
        found.correction, errors(*chosen, found.weight).mean(axis=0), rtol=1e-3, atol=1e-5
    )


def test_zero_points_are_zero_and_weights_have_a_step_per_channel(int8_source, model, int8):
    graph = checked(quantise(model, int8), fold(int8_source.image), "int8").graph
    held = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [held[node.input[2]] for node in nodes]
    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    weights = [held[node.input[0]] for node in nodes if node.input[0] in held]
    assert len(weights) == len(PARTS) * 3
    assert all(weight.dtype == np.int8 and np.abs(weight).max() <= 63 for weight in weights)
    assert not {name for name in held if name.endswith((".wide_in.weight", ".wide_out.weight"))}


def test_only_the_products_asked_for_are_quantised(model, int8):
    wanted = {f"blocks.{block}.{part}.matmul" for block in (0, 2) for part in PARTS}
    graph = quantise(model, {name: int8[name] for name in wanted}).graph
    made_by = {output: node for node in graph.node for output in node.output}

    def quantised(node: onnx.NodeProto) -> bool:
        return any(made_by[name].op_type == "DequantizeLinear" for name in node.input if name in made_by)

    touched = {node.name for node in graph.node if quantised(node) and node.op_type != "DequantizeLinear"}
    assert touched == wanted
    assert Counter(node.op_type for node in graph.node)["Conv"] == 1
    before, after = ({w.name: w for w in g.initializer} for g in (model.graph, graph))
    assert after["blocks.1.mlp_in.bias"] == before["blocks.1.mlp_in.bias"]
    assert "blocks.0.mlp_in.bias" not in after and "blocks.0.mlp_in.bias.corrected" in after


def test_a_layer_of_the_graph_is_its_integers_times_their_steps(int8_source, model, int8):
    """What ONNX Runtime makes of Sub, Q, DQ, product and bias, against float64 from the integers."""
    name = "blocks.1.wide_out"
    found = int8[f"{name}.matmul"]
    graph = quantise(model, {f"{name}.matmul": found})
    images = int8_source.calibration.images[:2]
    x = inner_value(model, "blocks.1.join", images).astype(np.float64)
    bias = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}[f"{name}.bias"]
    held = np.clip(np.rint((x - found.input.centre) / found.input.step), -127, 127)
    scales = found.weight_steps * np.float64(found.input.step)
    expected = held @ found.weight.astype(np.float64) * scales + bias + found.correction
    np.testing.assert_allclose(inner_value(graph, name, images), expected, atol=2e-2 * np.abs(expected).max())
    exact = inner_value(model, name, images)
    assert np.abs(expected - exact).mean() < 0.02 * np.abs(exact).mean()


def test_a_bundle_with_int8_passes_its_gate_and_says_what_was_chosen(int8_source, tmp_path: Path):
    report = write_bundle(int8_source, tmp_path / "bundle")
    assert [s.stage for s in report.stages if "int8" in s.stage] == ["onnxruntime cpu int8"]
    assert report.quantisation is not None and report.quantisation.images == len(
        int8_source.calibration.labels
    )
    with pytest.raises(ExportError, match="int8 needs photos"):
        write_bundle(dataclasses.replace(int8_source, calibration=None), tmp_path / "other")


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


def inner_value(model: onnx.ModelProto, name: str, images: np.ndarray) -> np.ndarray:
    probe = copy.deepcopy(model)
    probe.graph.output.append(onnx.ValueInfoProto(name=name))
    (value,) = session(probe).run([name], {"images": images})
    return value


def session(model: onnx.ModelProto, options: Any = None) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
