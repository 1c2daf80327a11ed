from __future__ import annotations

import dataclasses

import pytest
import torch

import rmatk.training.cache
from rmatk.config import TrainConfig
from rmatk.method.adapter import adapter_params
from rmatk.method.model import AdaptedClip
from rmatk.training.cache import ImageCache, cache_texts, class_logits
from rmatk.training.fit import fit, losses

NAMES = tuple(f"{'blue ' * (n % 4)}dot number {n}" for n in range(23))


@pytest.mark.parametrize("templates", [("a photo of a {}.",), ("a photo of a {}.", "my {}")])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_prompts_in_parts_give_the_losses_and_gradients_of_all_at_once(tiny, monkeypatch, templates, memory):
    """The naive loop runs every prompt whole and all at once; parts are cut, and share their first tokens."""
    monkeypatch.setattr(rmatk.training.cache, "STEP_MEMORY", memory)
    config = TrainConfig(batch=8, rank=6, epochs=1, templates=templates, precision="fp32")
    found = []
    for most in (1000, 5):
        monkeypatch.setattr(rmatk.training.cache, "PROMPTS_AT_ONCE", most)
        draw = torch.Generator().manual_seed(3)
        model = AdaptedClip(tiny, config, torch.Generator().manual_seed(1))
        with torch.no_grad():
            for parameter in adapter_params(model).values():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
        x, _ = model.image.lower(torch.randn(30, 3, 32, 32, generator=draw))
        images = ImageCache(x, model.image.frozen(x, None), torch.arange(30) % len(NAMES))
        text = cache_texts(model, NAMES, templates)
        assert text.first == (5 if len(templates) == 1 else 1)
        if most == 1000:
            text = dataclasses.replace(text, first=0)
        assert (len(text.parts) > 1) == (most == 5)
        terms, _ = losses(model, images, text, torch.arange(8), config)
        torch.autograd.backward(terms.total)
        gradients = {name: p.grad for name, p in adapter_params(model).items()}
        found.append((terms.values(), gradients, class_logits(model, images, text)))
    (whole, whole_gradients, whole_logits), (parts, gradients, logits) = found
    assert parts == pytest.approx(whole, rel=1e-5)
    for name, gradient in whole_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits, whole_logits, rtol=1e-5, atol=1e-4)


def test_training_in_parts_ends_at_the_same_weights(tiny, monkeypatch):
    config = TrainConfig(batch=8, rank=6, epochs=2, precision="fp32")
    ends = []
    for most in (1000, 7):
        monkeypatch.setattr(rmatk.training.cache, "PROMPTS_AT_ONCE", most)
        model = AdaptedClip(tiny, config, torch.Generator().manual_seed(1))
        x, _ = model.image.lower(torch.randn(23, 3, 32, 32, generator=torch.Generator().manual_seed(3)))
        images = ImageCache(x, model.image.frozen(x, None), torch.arange(23))
        ends.append(
            [
                step.terms["loss"]
                for step in fit(model, images, cache_texts(model, NAMES, config.templates), config)
            ]
        )
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)
