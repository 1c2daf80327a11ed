from __future__ import annotations

import pytest
import torch

from rmatk.method.adapter import AdaptedTower
from rmatk.method.towers import ImageTower, TextTower

PROMPTS = ["a photo of a cat .", "dog", "a very long photo of a red and green bird on grass"]


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize(
    "vision",
    [{}, {"pool_type": "avg"}, {"pool_type": "avg", "final_ln_after_pool": True}, {"ls_init_value": 0.1}],
    ids=lambda v: "-".join(v) or "plain",
)
def test_image_tower_gives_open_clips_features(tiny_clip, vision, custom_text):
    backbone = tiny_clip(vision=vision, custom_text=custom_text)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = backbone.model.encode_image(images, normalize=True)
    torch.testing.assert_close(_whole(ImageTower(backbone.model.visual), images), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("text", [{}, {"pool_type": "eos", "eos_id": 63}], ids=["argmax", "eos"])
@pytest.mark.parametrize("custom_text", [False, True])
def test_text_tower_with_cut_context_gives_open_clips_features(tiny_clip, text, custom_text):
    backbone = tiny_clip(custom_text=custom_text, **text)
    tokens = backbone.tokenize(PROMPTS)
    with torch.no_grad():
        expected = backbone.model.encode_text(tokens, normalize=True)
    tower = TextTower(backbone.text, backbone.eos_id)
    assert tower.embed(tokens)[0].shape[1] == 14  # twelve words, start and end
    assert tower.lengths(tokens).tolist() == [8, 3, 14]
    torch.testing.assert_close(_whole(tower, tokens), expected, atol=1e-6, rtol=0)


def test_towers_share_the_backbones_weights(tiny):
    tower = ImageTower(tiny.model.visual)
    own = {id(parameter) for parameter in tower.parameters()}
    assert own == {id(parameter) for parameter in tiny.model.visual.parameters()}


def _whole(tower, inputs):
    adapted = AdaptedTower(tower, adapted=2, rank=4, scale=1.0, generator=torch.Generator().manual_seed(0))
    return adapted.frozen(*adapted.lower(inputs))
