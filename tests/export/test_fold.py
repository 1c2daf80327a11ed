"""The fold is exact: in float64 against the trained model's own two-branch forward, and by hand in NumPy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from rmatk.config import TrainConfig
from rmatk.method.model import AdaptedClip
from rmatk_export.fold import attach, fold
from rmatk_export.parity.folded import run_image, run_text
from rmatk_export.readers.open_clip import read_image_tower, read_text_tower
from rmatk_export.weights import Adapter, Block, Linear, Norm, count_parameters, map_arrays
from rmatk_runtime.errors import ExportError

VARIANTS = {
    "clip": {},
    "gelu and layer scale": {"vision": {"ls_init_value": 0.3}, "ls_init_value": 0.2},
    "mean pooling": {"vision": {"pool_type": "avg"}},
    "mean pooling, norm after": {"vision": {"pool_type": "avg", "final_ln_after_pool": True}},
    "no norm before the blocks": {"vision": {"no_ln_pre": True}},
    "end of text by id": {"custom_text": True, "pool_type": "eos", "eos_id": 63},
}


def adapters(model: AdaptedClip, tower: str, scale: float) -> dict[int, Adapter]:
    return {
        index: Adapter(Linear(a["down_weight"], a["down_bias"]), Linear(a["up_weight"], a["up_bias"]), scale)
        for index, a in model.adapter_arrays(tower).items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_folded_equals_trained_in_float64(tiny_clip, variant: str):
    backbone = tiny_clip(**VARIANTS[variant])
    generator = torch.Generator().manual_seed(3)
    model = AdaptedClip(backbone, TrainConfig(rank=5, scale=0.7), generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.5, generator=generator)  # random adapters far from zero
    image = attach(read_image_tower(backbone.model), adapters(model, "image", 0.7))
    text = attach(read_text_tower(backbone.model), adapters(model, "text", 0.7))
    double = AdaptedClip.double(model)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=generator)
    tokens = backbone.tokenize(["a photo of a red thing", "short", "one two three four five"])

    def widen(tower):
        return fold(map_arrays(tower, lambda array: array.astype(np.float64)))

    with torch.no_grad():
        trained = double.encode_images(images)
        plain = double.encode_images(images, frozen=True)
        prompts = double.text.adapted(*double.text.lower(tokens))
        assert (trained - plain).abs().max() > 1e-3  # the adapters matter, so that agreement means something
        assert (run_image(widen(image), images) - trained).abs().max() <= 1e-10
        assert (run_text(widen(text), tokens) - prompts).abs().max() <= 1e-10


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def test_folded_products_are_the_formula():
    """[q k v d] and [act(z) | GELU(d)] as METHOD's fold states them, from random matrices."""
    rng = np.random.default_rng(0)
    width, rank, hidden, scale = 6, 2, 10, 0.3

    def linear(a: int, b: int) -> Linear:
        return Linear(rng.normal(size=(a, b)), rng.normal(size=b))

    norm = Norm(np.ones(width), np.zeros(width), 1e-5)
    block = Block(
        norm,
        linear(width, 3 * width),
        linear(width, width),
        norm,
        linear(width, hidden),
        linear(hidden, width),
        heads=2,
        activation="gelu",
        scale_1=rng.normal(size=width),
        scale_2=rng.normal(size=width),
        adapter=Adapter(linear(width, rank), linear(rank, width), scale),
    )
    tower = dataclasses.replace(_tower(), blocks=(block,))
    (folded,) = fold(tower).blocks
    u, z = rng.normal(size=(4, width)), rng.normal(size=(4, hidden))
    adapter = block.adapter
    assert adapter is not None
    d = u @ adapter.down.weight + adapter.down.bias
    both = np.hstack([u @ block.qkv.weight + block.qkv.bias, d])
    np.testing.assert_allclose(u @ folded.wide_in.weight + folded.wide_in.bias, both, rtol=1e-12)
    mlp = (z @ block.mlp_out.weight + block.mlp_out.bias) * block.scale_2
    adapt = gelu(d) @ adapter.up.weight + adapter.up.bias
    joined = np.hstack([z, gelu(d)]) @ folded.wide_out.weight + folded.wide_out.bias
    np.testing.assert_allclose(joined, mlp + scale * adapt, rtol=1e-10)


def _tower():
    from rmatk_export.weights import Head, TextStem, Tower

    norm = Norm(np.ones(6), np.zeros(6), 1e-5)
    return Tower(TextStem(np.zeros((4, 6)), np.zeros((3, 6)), None), (), Head("end", norm, True, None))


def test_adapters_that_do_not_fit_are_refused(tiny):
    tower = read_image_tower(tiny.model)
    narrow = Adapter(Linear(np.zeros((8, 2)), np.zeros(2)), Linear(np.zeros((2, 8)), np.zeros(8)), 1.0)
    with pytest.raises(ExportError, match="block 9"):
        attach(tower, {9: narrow})
    with pytest.raises(ExportError, match="8 wide, the tower 48"):
        attach(tower, {1: narrow})


def test_weights_that_are_not_finite_are_refused(tiny):
    tower = read_image_tower(tiny.model)
    broken = map_arrays(tower, lambda array: np.where(array == array.max(), np.nan, array))
    with pytest.raises(ExportError, match="not finite"):
        fold(broken)


def test_unsupported_parts_are_named(tiny_clip):
    attention_pool = tiny_clip().model
    attention_pool.visual.pool_type = "none"
    with pytest.raises(ExportError, match="pooling 'none' of VisionTransformer"):
        read_image_tower(attention_pool)
    bidirectional = tiny_clip().model
    bidirectional.attn_mask = None
    with pytest.raises(ExportError, match="text tower"):
        read_text_tower(bidirectional)
    other_activation = tiny_clip().model
    other_activation.visual.transformer.resblocks[1].mlp.gelu = torch.nn.SiLU()
    with pytest.raises(ExportError, match="activation SiLU"):
        read_image_tower(other_activation)


def test_parameters_are_counted(tiny):
    own = sum(p.numel() for p in tiny.model.visual.parameters())
    assert count_parameters(read_image_tower(tiny.model)) == own
