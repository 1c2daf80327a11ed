"""The adapter against an independent NumPy float64 reference written from the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rmatk.config import TrainConfig
from rmatk.method.adapter import AdaptedTower, DualBranchAdapter, adapter_params
from rmatk.method.model import AdaptedClip
from rmatk.method.towers import ImageTower, TextTower

erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def layer_norm(x, norm):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + norm.eps) * as_array(norm.weight) + as_array(norm.bias)


def as_array(tensor):
    return tensor.detach().numpy().astype(np.float64)


def linear(x, layer):
    return x @ as_array(layer.weight).T + as_array(layer.bias)


def reference_block(block, x, mask):
    """Block(x) of a pre-norm transformer with QuickGELU, head by head, in float64."""
    u = layer_norm(x, block.ln_1)
    attention = block.attn
    qkv = u @ as_array(attention.in_proj_weight).T + as_array(attention.in_proj_bias)
    q, k, v = np.split(qkv, 3, axis=-1)
    head = x.shape[-1] // attention.num_heads
    mixed = np.empty_like(x)
    for h in range(attention.num_heads):
        part = slice(h * head, (h + 1) * head)
        scores = q[..., part] @ k[..., part].swapaxes(-1, -2) / math.sqrt(head) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed[..., part] = weights / weights.sum(-1, keepdims=True) @ v[..., part]
    x = x + linear(mixed, attention.out_proj)
    z = linear(layer_norm(x, block.ln_2), block.mlp.c_fc)
    return x + linear(z / (1 + np.exp(-1.702 * z)), block.mlp.c_proj)


def reference_tower(adapted, x, mask, real):
    """(what the last block gives, sum of reconstruction errors); ``real`` (N, L) marks real tokens."""
    error = 0.0
    for index, adapter in adapted.blocks.items():
        block = adapted.tower.blocks[int(index)].block
        u = layer_norm(x, block.ln_1)
        h = gelu(linear(u, adapter.down))
        adapt = linear(h, adapter.up)
        recon = linear(gelu(linear(h, adapter.rec1)), adapter.rec2)
        error += ((recon - u) ** 2)[real].mean()
        x = reference_block(block, x, mask) + adapted.scale * adapt
    return x, error


def trained(tower, scale=0.7):
    """An adapted tower whose up-projection is no longer zero."""
    generator = torch.Generator().manual_seed(3)
    adapted = AdaptedTower(tower, adapted=2, rank=5, scale=scale, generator=generator)
    for adapter in adapted.blocks.values():
        torch.nn.init.normal_(adapter.up.weight, std=0.3, generator=generator)
        torch.nn.init.normal_(adapter.up.bias, std=0.3, generator=generator)
    return adapted


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@torch.no_grad()
def test_image_tower_with_adapters_follows_the_formulas(tiny):
    adapted = trained(ImageTower(tiny.model.visual))
    x, lengths = adapted.lower(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5)))
    features, error = adapted.reconstructed(x, lengths)
    last, expected_error = reference_tower(adapted, as_array(x), 0.0, np.ones(x.shape[:2], bool))
    visual = tiny.model.visual
    expected = unit(layer_norm(last[:, 0], visual.ln_post) @ as_array(visual.proj))
    np.testing.assert_allclose(features.numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(error.item(), expected_error, rtol=1e-6)
    np.testing.assert_array_equal(adapted.adapted(x, lengths), features)
    assert not np.allclose(adapted.frozen(x, lengths), features, atol=1e-2)


@torch.no_grad()
def test_text_tower_with_adapters_follows_the_formulas(tiny):
    adapted = trained(TextTower(tiny.text, tiny.eos_id))
    tokens = tiny.tokenize(["a photo of a cat .", "dog", "one more prompt"])
    x, lengths = adapted.lower(tokens)
    features, error = adapted.reconstructed(x, lengths)
    mask = np.triu(np.full((x.shape[1],) * 2, -np.inf), 1)
    real = np.arange(x.shape[1]) < np.array([[8], [3], [5]])
    last, expected_error = reference_tower(adapted, as_array(x), mask, real)
    pooled = layer_norm(last, tiny.model.ln_final)[np.arange(3), [7, 2, 4]]
    np.testing.assert_allclose(features, unit(pooled @ as_array(tiny.model.text_projection)), atol=2e-6)
    np.testing.assert_allclose(error.item(), expected_error, rtol=1e-6)


@pytest.mark.parametrize("gradient", [False, True])
def test_an_untrained_adapter_is_exactly_clip(tiny, gradient):
    model = AdaptedClip(tiny, TrainConfig(), torch.Generator().manual_seed(1))
    for tower, inputs in (
        (model.image, torch.randn(7, 3, 32, 32)),
        (model.text, model.tokens(["cat", "dog"], ["a photo of a {}.", "{}"])),
    ):
        x, lengths = tower.lower(inputs)
        with torch.set_grad_enabled(gradient):
            assert torch.equal(tower.adapted(x, lengths), tower.frozen(x, lengths))


def test_reconstruction_is_local(tiny):
    """Its gradient reaches the reconstruction branch and the shared projection of its own block alone."""
    adapted = trained(ImageTower(tiny.model.visual))
    x, lengths = adapted.lower(torch.randn(2, 3, 32, 32))
    adapted.reconstructed(x, lengths)[1].backward()
    for adapter in adapted.blocks.values():
        assert adapter.up.weight.grad is None
        assert adapter.rec1.weight.grad.abs().max() > 0
        assert adapter.down.weight.grad.abs().max() > 0
    of_both = adapted.blocks["1"].down.weight.grad.clone()
    adapted.zero_grad()
    adapter, block = adapted.blocks["1"], adapted.tower.blocks[1].block
    u = block.ln_1(x)
    torch.nn.functional.mse_loss(adapter.reconstruct(u), u).backward()
    torch.testing.assert_close(adapter.down.weight.grad, of_both)


def test_only_the_adapters_are_trainable_and_named_by_tower_and_block(tiny):
    names = set(adapter_params(AdaptedClip(tiny, TrainConfig(), torch.Generator())))
    assert names == {
        f"{tower}.blocks.{index}.{layer}.{kind}"
        for tower in ("image", "text")
        for index in (1, 2)
        for layer in ("down", "up", "rec1", "rec2")
        for kind in ("weight", "bias")
    }


def test_initial_weights_come_from_the_generator_alone():
    def weights(seed):
        return DualBranchAdapter(8, 3, torch.Generator().manual_seed(seed)).down.weight

    before = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), before)
