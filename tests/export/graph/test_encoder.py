"""The written graphs: right in ONNX Runtime, shaped as promised, and refused when something is off."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from rmatk_export.fold import fold
from rmatk_export.graph.checks import checked
from rmatk_export.graph.encoder import image_graph, text_graph
from rmatk_export.graph.writer import float32_products
from rmatk_export.int8.graph import quantise
from rmatk_export.int8.ranges import calibrate
from rmatk_export.parity.folded import run_image, run_text
from rmatk_export.readers.open_clip import read_image_tower, read_text_tower
from rmatk_runtime.errors import ExportError

VARIANTS = {
    "clip": {},
    "layer scale": {"vision": {"ls_init_value": 0.3}, "ls_init_value": 0.2},
    "mean pooling": {"vision": {"pool_type": "avg"}},
    "mean pooling, norm after": {"vision": {"pool_type": "avg", "final_ln_after_pool": True}},
    "no norm before the blocks": {"vision": {"no_ln_pre": True}},
}


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def counts(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("variant", VARIANTS)
def test_image_graph_gives_what_pytorch_gives_at_any_batch(tiny_clip, variant: str):
    backbone = tiny_clip(**VARIANTS[variant])
    tower = fold(read_image_tower(backbone.model))
    engine = session(checked(image_graph(tower), tower))
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = backbone.model.encode_image(images, normalize=True)
    for batch in (1, 2, 5):
        (found,) = engine.run(None, {"images": images[:batch].numpy()})
        np.testing.assert_allclose(found, expected[:batch], atol=2e-6)
    np.testing.assert_allclose(run_image(tower, images), expected, atol=2e-6)


def test_adapted_graphs_equal_the_folded_towers(tiny_source):
    image, text = fold(tiny_source.image), fold(tiny_source.text)
    assert all(block.rank == 4 for block in image.blocks[1:]) and image.blocks[0].rank == 0
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    (found,) = session(checked(image_graph(image), image)).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, run_image(image, images), atol=2e-6)
    engine = session(checked(text_graph(text), text))
    tokens = tiny_source.class_tokens.reshape(-1, tiny_source.class_tokens.shape[-1])
    for length in (tokens.shape[1], int(tokens.argmax(axis=1).max()) + 1):  # any length past end of text
        (found,) = engine.run(None, {"tokens": tokens[:, :length]})
        np.testing.assert_allclose(found, run_text(text, torch.from_numpy(tokens)), atol=2e-6)


def test_the_text_graph_takes_any_number_of_prompts_of_any_length(tiny_clip):
    """int64 ids (N, L): what comes after the end of text cannot reach it, so padding may be cut, or not."""
    tower = fold(read_text_tower(tiny_clip().model))
    engine = session(checked(text_graph(tower), tower))
    (tokens_in,) = engine.get_inputs()
    assert (tokens_in.name, tokens_in.type, tokens_in.shape) == ("tokens", "tensor(int64)", ["N", "L"])
    context = len(tower.stem.positions)
    for end in (1, 2, context // 2, context - 1):
        ids = np.zeros((5, context), dtype=np.int64)
        ids[:, 0], ids[:, end] = 62, 63
        ids[:, 1:end] = np.random.default_rng(end).integers(1, 62, (5, end - 1))
        expected = run_text(tower, torch.from_numpy(ids))
        for count in (1, 2, 5):
            for length in {end + 1, (end + 1 + context) // 2, context}:
                (found,) = engine.run(None, {"tokens": ids[:count, :length]})
                np.testing.assert_allclose(found, expected[:count], atol=2e-6)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_text_graph_holds_in_lower_precisions(tiny_source, precision: str):
    tower = fold(tiny_source.text)
    tokens = tiny_source.class_tokens.reshape(-1, tiny_source.class_tokens.shape[-1])
    if precision == "fp16":
        model = checked(text_graph(tower, half=True), tower, "fp16")
    else:
        plain = text_graph(tower)
        model = checked(quantise(plain, calibrate(plain, tokens)), tower, "int8")
    (found,) = half_session(model).run(None, {"tokens": tokens})
    assert found.dtype == np.float32
    cosines = (found * run_text(tower, torch.from_numpy(tokens)).numpy()).sum(axis=1)
    assert cosines.min() > {"fp16": 1 - 1e-5, "int8": 0.99}[precision]


def test_the_image_graph_is_plain_clip_but_for_activation_and_join(tiny_source, tiny):
    plain = counts(image_graph(fold(read_image_tower(tiny.model))))
    adapted = counts(image_graph(fold(tiny_source.image)))
    blocks = sum(block.adapter is not None for block in tiny_source.image.blocks)
    extra = adapted - plain
    # GELU on the adapter's hidden layer, its join, and in the last block its share of the class token.
    assert extra == Counter(Div=blocks, Erf=blocks, Add=blocks, Mul=2 * blocks, Concat=blocks, Gather=1)
    assert adapted["MatMul"] == plain["MatMul"] and not plain - adapted


def test_shapes_are_constants_but_for_the_batch(tiny_source):
    model = image_graph(fold(tiny_source.image))
    assert not {"Shape", "Slice", "Expand", "Range", "ConstantOfShape"} & set(counts(model))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for value in inferred.graph.value_info:
        sizes = value.type.tensor_type.shape.dim
        assert all(size.HasField("dim_value") for size in sizes[1:]), value.name
    (images,), (embeddings,) = model.graph.input, model.graph.output
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == ["N", 3, 32, 32]
    assert [d.dim_param or d.dim_value for d in embeddings.type.tensor_type.shape.dim] == ["N", 24]


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_graph_keeps_the_exact_parts_in_float32(tiny_clip, variant: str):
    tower = fold(read_image_tower(tiny_clip(**VARIANTS[variant]).model))
    model = checked(image_graph(tower, half=True), tower, "fp16")
    assert Counter(weight.data_type for weight in model.graph.initializer)[onnx.TensorProto.FLOAT16] > 10
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (found,) = half_session(model).run(None, {"images": images.numpy()})
    assert found.dtype == np.float32
    cosines = (found * run_image(tower, images).numpy()).sum(axis=1)
    assert cosines.min() > 1 - 1e-5
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)

    narrow = broken(model)
    norm = next(node for node in narrow.graph.node if node.op_type == "Softmax")
    cast = next(node for node in narrow.graph.node if norm.input[0] in node.output)
    norm.input[0] = cast.input[0]
    with pytest.raises(ExportError, match=r"softmax computes in FLOAT16"):
        checked(narrow, tower, "fp16")


def half_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["NchwcTransformer"],
    )


def test_weights_beyond_halfs_range_stay_in_float32(tiny):
    tower = fold(read_image_tower(tiny.model))
    block = tower.blocks[1]
    large = block.mlp_in.weight.copy()
    large[0, 0] = 70000.0
    changed = dataclasses.replace(block, mlp_in=dataclasses.replace(block.mlp_in, weight=large))
    tower = dataclasses.replace(tower, blocks=(tower.blocks[0], changed, *tower.blocks[2:]))
    model = checked(image_graph(tower, half=True), tower, "fp16")
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert kinds["blocks.1.mlp_in.weight"] == onnx.TensorProto.FLOAT
    assert kinds["blocks.0.mlp_in.weight"] == onnx.TensorProto.FLOAT16
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (found,) = half_session(model).run(None, {"images": images.numpy()})
    assert np.isfinite(found).all()
    assert float32_products(model) == ("blocks.1.mlp_in",)
    assert float32_products(image_graph(fold(read_image_tower(tiny.model)), half=True)) == ()
    projection = tower.head.projection.copy()
    projection[0, 0] = -70000.0
    head = dataclasses.replace(tower.head, projection=projection)
    with pytest.raises(ExportError, match="projection.weight is outside float16's range"):
        image_graph(dataclasses.replace(tower, head=head), half=True)


def test_the_same_tower_gives_the_same_bytes(tiny_source):
    first, second = (image_graph(fold(tiny_source.image)).SerializeToString(deterministic=True) for _ in "12")
    assert first == second


def broken(model: onnx.ModelProto) -> onnx.ModelProto:
    return copy.deepcopy(model)


def test_checks_find_what_they_are_for(tiny):
    tower = fold(read_image_tower(tiny.model))
    sound = checked(image_graph(tower), tower)

    scaled_key = broken(sound)
    scores = next(n for n in scaled_key.graph.node if n.name == "blocks.1.scores")
    position = list(scaled_key.graph.node).index(scores)
    scale = next(n for n in scaled_key.graph.node if n.name == "blocks.1.q.scaled").input[1]
    scaled_key.graph.node.insert(
        position, helper.make_node("Mul", [scores.input[1], scale], ["k2"], name="k2")
    )
    scores.input[1] = "k2"
    with pytest.raises(ExportError, match=r"blocks\.1\.scores: expected q scaled by 0\.25 and k not at all"):
        checked(scaled_key, tower)

    other_scale = broken(sound)
    weight = next(w for w in other_scale.graph.initializer if w.name == scale)
    weight.CopyFrom(numpy_helper.from_array(np.array(0.5, np.float32), scale))
    with pytest.raises(ExportError, match="q by 0.5"):
        checked(other_scale, tower)

    double = broken(sound)
    double.graph.initializer.append(numpy_helper.from_array(np.zeros(1), "spare"))
    with pytest.raises(ExportError, match="spare is DOUBLE"):
        checked(double, tower)

    newer = broken(sound)
    newer.opset_import[0].version = 19
    with pytest.raises(ExportError, match="expected opset 18"):
        checked(newer, tower)

    with pytest.raises(ExportError, match="LayerNormalization nodes for"):
        checked(sound, fold(read_image_tower(tiny_with_one_block_less(tiny))))

    cyclic = broken(sound)
    cyclic.graph.node[3].input[0] = "nowhere"
    with pytest.raises(ExportError, match="not valid ONNX"):
        checked(cyclic, tower)


def tiny_with_one_block_less(tiny):
    model = copy.deepcopy(tiny.model)
    model.visual.transformer.resblocks = model.visual.transformer.resblocks[:-1]
    return model
