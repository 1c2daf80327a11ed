"""Bisecting names the very node that was made wrong, in every precision, and none in a sound graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rmatk_export.fold import fold
from rmatk_export.graph.encoder import image_graph
from rmatk_export.parity.bisect import bisect
from rmatk_export.parity.reference_graph import steps_of
from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BundleError
from rmatk_runtime.parity.reference import golden_of
from rmatk_runtime.parity.stage import NODE_BOUNDS
from rmatk_runtime.pictures.preprocess import preprocess

PRECISIONS = ("fp32", "fp16", "int8")


def images_of(bundle: Bundle, count: int = 2) -> Float32:
    spec = bundle.manifest.preprocess
    return np.stack([preprocess(image, spec) for image in golden_of(bundle).images[:count]])


def set_weight(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    weight = next(weight for weight in model.graph.initializer if weight.name == name)
    value = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(change(value.copy()).astype(value.dtype), name))


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def one_entry(model: onnx.ModelProto) -> None:
    """One number of a product's weight; for int8 one channel's scale."""
    product = node_of(model, "blocks.1.mlp_in.matmul")
    made_by = {node.output[0]: node for node in model.graph.node}
    weight = product.input[1]
    if weight in made_by:
        weight = made_by[weight].input[1]

    def larger(value: np.ndarray) -> np.ndarray:
        value.flat[5] = 40 * np.abs(value).max()
        return value

    set_weight(model, weight, larger)


def other_axis(model: onnx.ModelProto) -> None:
    (axis,) = node_of(model, "blocks.2.softmax").attribute
    axis.i = 1


def other_operator(model: onnx.ModelProto) -> None:
    node_of(model, "blocks.0.mid").op_type = "Sub"


def epsilon(model: onnx.ModelProto) -> None:
    attributes = {a.name: a for a in node_of(model, "blocks.1.norm_2").attribute}
    attributes["epsilon"].f = 0.5


def lost_bias(model: onnx.ModelProto) -> None:
    bias = node_of(model, "blocks.1.attention_out").input[1]  # another name in int8, where it is corrected
    set_weight(model, bias, lambda value: value * np.nan)


FAULTS = {
    "blocks.1.mlp_in.matmul": one_entry,
    "blocks.2.softmax": other_axis,
    "blocks.0.mid": other_operator,
    "blocks.1.norm_2": epsilon,
    "blocks.1.attention_out": lost_bias,
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("node", FAULTS)
def test_exactly_the_faulty_node_is_named(every_precision: Path, alter, tiny_source, node: str, precision):
    bundle = Bundle.open(alter(every_precision, precision, FAULTS[node]))
    reference = image_graph(fold(tiny_source.image))
    found = bisect("stage", bundle.file(bundle.graph(precision).file), reference, images_of(bundle))
    if precision == "int8":  # a product and its bias are judged as one
        node = node.removesuffix(".matmul")
    assert found and found.departs is not None and found.departs.node == node
    own = found.departs.own
    assert own is None or own > NODE_BOUNDS[found.departs.precision]
    assert found.departs.inputs is not None and found.departs.inputs < NODE_BOUNDS[precision]
    others = {each.node for each in found.nodes if each.own is None or each.own > NODE_BOUNDS[each.precision]}
    if precision == "int8":  # what arrives later does not fit the ranges measured in calibration
        products = {each.node for each in found.nodes if each.op == "MatMul + Add"}
        others = (others - products) | {node}
    assert others == {node}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_sound_graph_has_no_such_node(every_precision: Path, tiny_source, precision: str):
    bundle = Bundle.open(every_precision)
    reference = image_graph(fold(tiny_source.image))
    seen: list[tuple[int, int]] = []
    found = bisect(
        "stage",
        bundle.file(bundle.graph(precision).file),
        reference,
        images_of(bundle),
        on_progress=lambda stage, done, total: seen.append((done, total)),
    )
    graph = onnx.load(bundle.file(bundle.graph(precision).file)).graph
    products = sum(node.op_type == "QuantizeLinear" for node in graph.node)  # each judged with its bias
    assert bool(products) == (precision == "int8")
    assert not found and len(found.nodes) == len(reference.graph.node) - products and found.images == 2
    assert sum(each.op == "MatMul + Add" for each in found.nodes) == products
    assert seen[-1] == (len(seen), len(seen)) == (2 * len(found.nodes),) * 2
    # Each works where the graph puts it: LayerNorm in float32, what is quantised in int8.
    assert found.largest(1)[0].precision == precision
    assert all(each.own < 0.5 * NODE_BOUNDS[each.precision] for each in found.nodes)
    assert found.end is not None and found.end < {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.3}[precision]


def test_the_reference_is_numpys_arithmetic(tiny_source):
    """A product, its bias and a LayerNorm against NumPy in float64."""
    steps = {step.node.name: step for step in steps_of(image_graph(fold(tiny_source.image)))}
    block = fold(tiny_source.image).blocks[1]
    x = np.random.default_rng(0).normal(size=(1, 17, 48)).astype(np.float32)
    wide = x.astype(np.float64)
    normal = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + block.norm_1.eps)
    normal = normal * block.norm_1.weight.astype(np.float64) + block.norm_1.bias
    (found,) = steps["blocks.1.norm_1"].apply({"blocks.0.out": x}).values()
    np.testing.assert_allclose(found, normal, rtol=1e-10, atol=1e-12)
    (product,) = steps["blocks.1.wide_in.matmul"].apply({"blocks.1.norm_1": normal}).values()
    np.testing.assert_allclose(product, normal @ block.wide_in.weight.astype(np.float64), rtol=1e-12)
    (sum_,) = steps["blocks.1.wide_in"].apply({"blocks.1.wide_in.matmul": product}).values()
    np.testing.assert_allclose(sum_, product + block.wide_in.bias.astype(np.float64), rtol=1e-12)


def test_a_graph_without_a_value_of_the_reference_is_refused(every_precision: Path, alter, tiny_source):
    def rename(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["other" if name == "blocks.1.mid" else name for name in names]

    bundle = Bundle.open(alter(every_precision, "fp32", rename))
    reference = image_graph(fold(tiny_source.image))
    with pytest.raises(BundleError, match=r"has no blocks\.1\.mid"):
        bisect("stage", bundle.file(bundle.graph("fp32").file), reference, images_of(bundle))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_command_bisects_the_failing_stage_from_the_golden_set(
    rmatk, every_precision: Path, alter, precision: str
):
    bundle = alter(every_precision, precision, other_operator)
    code, out, err = rmatk("parity", bundle, "--bisect", "--json")
    assert code == 3 and f"onnxruntime cpu {precision}" in err
    (found,) = json.loads(out)["bisections"]
    assert found["departs"]["node"] == "blocks.0.mid" and found["reference"] == "bundle"
    assert found["departs"]["op"] == "Add" and found["departs"]["place"] == "block 0, mid"
    code, out, _ = rmatk("parity", bundle, "--bisect")
    assert (
        code == 3 and "diverges from the bundle's fp32 graph at the node blocks.0.mid (Add in block 0" in out
    )


def test_a_wrong_fp32_graph_needs_the_run(rmatk, every_precision: Path, alter, tiny, tiny_run, monkeypatch):
    """Held against itself it is sound: each node computes what the graph says. The run knows better."""
    bundle = alter(every_precision, "fp32", one_entry)
    code, out, err = rmatk("parity", bundle, "--bisect")
    assert code == 3 and "onnxruntime cpu fp32" in err
    assert "the graph itself is not what was trained. Bisect it against the run" in out
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda *names: tiny)
    photos = tiny_run.record.data
    code, out, _ = rmatk("parity", bundle, photos, "--against", tiny_run.path, "--bisect", "--json")
    (found,) = json.loads(out)["bisections"]
    assert code == 3 and found["departs"]["node"] == "blocks.1.mlp_in.matmul" and found["reference"] == "run"


def test_a_sound_bundle_shows_every_graph_and_without_a_reference_it_says_what_to_do(
    rmatk, every_precision: Path, tmp_path: Path, tiny_source
):
    import dataclasses

    from rmatk_export.bundle_writer import write_bundle

    code, out, _ = rmatk("parity", every_precision, "--bisect")
    assert code == 0 and out.count("No node of onnxruntime cpu") == 3
    write_bundle(dataclasses.replace(tiny_source, precisions=("fp16",)), tmp_path / "half")
    code, _, err = rmatk("parity", tmp_path / "half", "--bisect")
    assert code == 1 and "--against RUN" in err
