"""Broken graphs, each refused with a sentence that names the place; sound ones pass in ``test_graph.py``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmatk_export.fold import fold
from rmatk_export.graph.checks import checked
from rmatk_export.graph.encoder import image_graph, text_graph
from rmatk_export.graph.values import infer
from rmatk_export.readers.open_clip import read_image_tower, read_text_tower
from rmatk_export.weights import FoldedTower, ImageStem, TextStem
from rmatk_runtime.errors import ExportError

Model = onnx.ModelProto


@pytest.fixture(scope="module")
def image(tiny) -> FoldedTower[ImageStem]:
    return fold(read_image_tower(tiny.model))


@pytest.fixture(scope="module")
def text(tiny) -> FoldedTower[TextStem]:
    return fold(read_text_tower(tiny.model))


def node_of(model: Model, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def weight(model: Model, name: str, value: np.ndarray) -> str:
    """A weight of this name, in the place of one that there may be."""
    for held in [held for held in model.graph.initializer if held.name == name]:
        model.graph.initializer.remove(held)
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def between(model: Model, name: str, *made: tuple[str, list[str], dict[str, object]]) -> None:
    """Put operators between a node and the value it gives, the first taking that value."""
    node = node_of(model, name)
    position = list(model.graph.node).index(node) + 1
    x, node.output[0] = f"{name}.raw", f"{name}.raw"
    for step, (kind, inputs, attributes) in enumerate(made):
        out = name if step == len(made) - 1 else f"{name}.{step}"
        model.graph.node.insert(
            position + step, helper.make_node(kind, [x, *inputs], [out], name=f"{name}.{kind}", **attributes)
        )
        x = out


def newer_ir(model: Model) -> None:
    model.ir_version = 11


def other_domain(model: Model) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    node_of(model, "blocks.1.mid").domain = "com.microsoft"


def function(model: Model) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(
        helper.make_function("own", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 18)])
    )


def resize(model: Model) -> None:
    scales = weight(model, "scales", np.ones(3, np.float32))
    between(model, "blocks.1.out", ("Resize", ["", scales], {"mode": "linear"}))


def double_path(model: Model) -> None:
    casts = [("Cast", [], {"to": kind}) for kind in (TensorProto.DOUBLE, TensorProto.FLOAT)]
    between(model, "blocks.1.out", *casts)


def not_finite(model: Model) -> None:
    weight(model, "norm_post.bias", np.full(48, np.nan, np.float32))


def baked_batch(model: Model) -> None:
    shape = weight(model, "baked", np.array([1, 17, 48], np.int64))
    between(model, "blocks.1.out", ("Reshape", [shape], {}))


def shape_from_numbers(model: Model) -> None:
    """A size that depends on what is in the picture."""
    least = weight(model, "least", np.array(0, np.int64))
    model.graph.node.insert(0, helper.make_node("ArgMax", ["images"], ["top"], name="top", keepdims=0))
    model.graph.node.insert(1, helper.make_node("Gather", ["top", least], ["one"], name="one", axis=0))
    model.graph.node.insert(2, helper.make_node("Gather", ["one", least], ["two"], name="two", axis=0))
    ends = weight(model, "axis", np.array([1], np.int64))
    model.graph.node.insert(3, helper.make_node("Slice", ["images", ends, "two", ends], ["cut"], name="cut"))


def half_product(model: Model) -> None:
    value = np.zeros((48, 48), np.float16)
    product = node_of(model, "blocks.1.attention_out.matmul")
    product.input[1] = weight(model, "half", value)
    position = list(model.graph.node).index(product)
    low = helper.make_node("Cast", [product.input[0]], ["low"], name="low", to=TensorProto.FLOAT16)
    model.graph.node.insert(position, low)
    product.input[0] = "low"
    between(model, product.name, ("Cast", [], {"to": TensorProto.FLOAT}))


def quantised(model: Model, zero: int = 0) -> None:
    step = weight(model, "step", np.array(0.1, np.float32))
    point = weight(model, "point", np.array(zero, np.int8))
    nodes = [(kind, [step, point], {}) for kind in ("QuantizeLinear", "DequantizeLinear")]
    between(model, "blocks.1.out", *nodes)


IMAGE: dict[str, tuple[Callable[[Model], None], str]] = {
    "newer IR": (newer_ir, "expected opset 18 alone, IR 8, found {'': 18}, IR 11"),
    "another domain": (other_domain, "expected opset 18 alone"),
    "a function of its own": (function, "operators of its own"),
    "resampling inside": (resize, r"blocks\.1\.out\.Resize is of a kind not written here: Resize"),
    "a path in float64": (double_path, r"blocks\.1\.out\.0 is DOUBLE"),
    "not finite": (not_finite, r"norm_post\.bias holds a number that is not finite"),
    "a batch of one": (baked_batch, r"blocks\.1\.out is not open in its batch, its shape is \(1, 17, 48\)"),
    "sizes from numbers": (shape_from_numbers, "cut has sizes that are not constants|are unknown"),
    "half in float32": (half_product, r"attention_out\.matmul computes in FLOAT16, not FLOAT"),
    "int8 in float32": (quantised, "2 quantising nodes in a graph of fp32"),
}


@pytest.mark.parametrize("fault", IMAGE)
def test_a_broken_image_graph_is_refused(image: FoldedTower[ImageStem], fault: str):
    model = image_graph(image)
    break_, message = IMAGE[fault]
    break_(model)
    with pytest.raises(ExportError, match=message):
        checked(model, image)


def test_half_that_is_float32_after_all_is_refused(image: FoldedTower[ImageStem]):
    with pytest.raises(ExportError, match=r"patch computes in FLOAT, not FLOAT16"):
        checked(image_graph(image), image, "fp16")
    with pytest.raises(ExportError, match="0 quantising nodes in a graph of int8"):
        checked(image_graph(image), image, "int8")


def test_a_zero_point_that_is_not_zero_is_refused(image: FoldedTower[ImageStem]):
    model = image_graph(image)
    quantised(model)
    checked(model, image, "int8")
    weight(model, "point", np.array(3, np.int8))
    with pytest.raises(ExportError, match=r"the zero point of blocks\.1\.out\.QuantizeLinear is not 0"):
        checked(model, image, "int8")


def test_a_scaled_key_of_the_pooling_query_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Attention pooling, as SigLIP has it: the query is a constant that already holds the scale."""
    timm = pytest.importorskip("timm")
    import torch

    from rmatk_export.readers.timm import read_timm_tower

    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 0}
    trunk = timm.models.VisionTransformer(**sizes, class_token=False, global_pool="map")
    visual = type("Visual", (), {"trunk": trunk.eval(), "head": ()})()
    tower = fold(read_timm_tower(visual))
    model = checked(image_graph(tower), tower)
    factor = weight(model, "factor", np.array(0.5, np.float32))
    between(model, "pool.k.heads", ("Mul", [factor], {}))
    with pytest.raises(ExportError, match=r"pool\.scores: expected a constant query and k not scaled"):
        checked(model, tower)


def test_the_text_graphs_batch_stays_open(text: FoldedTower[TextStem]):
    model = checked(text_graph(text), text)
    shape = weight(model, "baked", np.array([1, -1, 32], np.int64))
    between(model, "blocks.1.out", ("Reshape", [shape], {}))
    with pytest.raises(ExportError, match=r"blocks\.1\.out is not open in its batch"):
        checked(model, text)


def test_every_value_is_known(image: FoldedTower[ImageStem], text: FoldedTower[TextStem]):
    for model in (image_graph(image), image_graph(image, half=True), text_graph(text)):
        values = infer(model)
        named = {name for node in model.graph.node for name in (*node.input, *node.output)}
        assert named <= set(values)
        assert values["embeddings"].shape == ("N", 24) and values["embeddings"].kind == "FLOAT"
    assert infer(image_graph(image))["blocks.1.scores"].shape == ("N", 3, 17, 17)
    assert infer(image_graph(image, half=True))["blocks.1.q"].kind == "FLOAT16"
