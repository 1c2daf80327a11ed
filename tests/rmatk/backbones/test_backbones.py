"""Every family of backbones, shrunk and random: adapt, train two steps, fold, write, and compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from rmatk.backbones.backbone import Backbone, wrap
from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.config import TrainConfig
from rmatk.deployment.from_run import adapted_towers
from rmatk.method.model import AdaptedClip, mean_of_templates
from rmatk.training.cache import ImageCache, TextCache
from rmatk.training.fit import fit
from rmatk_export.fold import fold
from rmatk_export.graph.checks import checked
from rmatk_export.graph.encoder import image_graph, text_graph
from rmatk_export.parity.folded import run_image, run_text
from rmatk_runtime.pictures.preprocess import PreprocessSpec

FAMILIES = (
    "ViT-B-32-quickgelu",
    "ViT-B-16",
    "ViT-L-14",
    "ViT-B-16-SigLIP2",
    "ViT-SO400M-14-SigLIP",
    "PE-Core-B-16",
)
SIZE, WORDS = 32, 60


def shrunk(name: str, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """The named architecture with 3 narrow blocks per tower and random weights."""
    import_torchvision()
    import open_clip
    import timm

    config: dict[str, Any] = open_clip.get_model_config(name)
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    context = min(text.get("context_length", 77), 12)
    text.update(width=48, heads=3, layers=3, vocab_size=WORDS, context_length=context)
    text.pop("hf_tokenizer_name", None)
    embed_dim = 48
    if "timm_model_name" in vision:
        small: dict[str, Any] = {
            "embed_dim": 48,
            "depth": 3,
            "num_heads": 3,
            "img_size": SIZE,
            "patch_size": 8,
        }
        if "pe_core" in vision["timm_model_name"]:
            small.update(ref_feat_shape=(4, 4), attn_pool_num_heads=2)
        create = timm.create_model
        monkeypatch.setattr(
            timm, "create_model", lambda name, **options: create(name, **{**options, **small})
        )
        vision["image_size"] = SIZE
    else:
        vision.update(width=48, head_width=16, layers=3, image_size=SIZE, patch_size=8)
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    quick = {"quick_gelu": True} if config.get("quick_gelu") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(embed_dim, vision, text, **quick)
        for parameter in model.parameters():  # biases, norms and latents start at constants, hiding mistakes
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    model.logit_scale.data.fill_(2.0)

    def tokenize(texts: list[str]) -> torch.Tensor:
        rows = torch.zeros(len(texts), context, dtype=torch.int64)
        for row, words in enumerate(text.split() for text in texts):
            ids = [1 + len(word) * 7 % (WORDS - 2) for word in words][: context - 1]
            rows[row, : len(ids) + 1] = torch.tensor([*ids, WORDS - 1])
        return rows

    spec = PreprocessSpec(SIZE, SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return wrap(model, tokenize, None, spec, name=name, pretrained=None)


def train_two_steps(backbone: Backbone) -> AdaptedClip:
    """Adapters after two large steps on random pictures of three classes."""
    config = TrainConfig(epochs=1, batch=6, rank=5, lr=0.05, scale=0.8, templates=("a photo of {}", "my {}"))
    generator = torch.Generator().manual_seed(1)
    model = AdaptedClip(backbone, config, generator)
    pictures = torch.randn(12, 3, SIZE, SIZE, generator=generator)
    x, _ = model.image.lower(pictures)
    labels = torch.arange(12) % 3
    prompts, lengths = model.text.lower(model.tokens(("cat", "wolf", "tigers"), config.templates))
    frozen = mean_of_templates(model.text.frozen(prompts, lengths), 2)
    images = ImageCache(x, model.image.frozen(x, None), labels)
    steps = list(
        fit(model, images, TextCache(((prompts, lengths),), torch.arange(len(prompts)), frozen, 2), config)
    )
    assert len(steps) == 2 and all(np.isfinite(value) for step in steps for value in step.terms.values())
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_adapt_train_fold_compare(name: str, monkeypatch: pytest.MonkeyPatch):
    backbone = shrunk(name, monkeypatch)
    pictures = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    tokens = backbone.tokenize(["a photo of a cat", "short", "one two three four five six seven eight"])
    untrained = AdaptedClip(backbone, TrainConfig(rank=5), torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = backbone.model.encode_image(pictures, normalize=True)
        own = backbone.model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(untrained.encode_images(pictures), plain, atol=2e-6, rtol=0)
    with torch.no_grad():
        read = untrained.text.adapted(*untrained.text.lower(tokens))
    torch.testing.assert_close(read, own, atol=2e-6, rtol=0)

    model = train_two_steps(backbone)
    trained = model.encode_images(pictures)
    assert (trained - plain).abs().max() > 1e-2  # the adapters matter, so that agreement means something
    image, text = adapted_towers(model, 0.8)
    for tower, write, inputs, expected in (
        (fold(image), image_graph, pictures, trained),
        (fold(text), text_graph, tokens, model.text.adapted(*model.text.lower(tokens)).detach()),
    ):
        graph = checked(write(tower), tower)
        engine = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = engine.run(None, {engine.get_inputs()[0].name: inputs.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=5e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_fold_is_exact_in_float64(name: str, monkeypatch: pytest.MonkeyPatch):
    double = AdaptedClip.double(train_two_steps(shrunk(name, monkeypatch)))
    image, text = (fold(tower) for tower in adapted_towers(double, 0.8))
    pictures = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).double()
    tokens = double.backbone.tokenize(["a photo of a cat", "short words"])
    with torch.no_grad():
        assert (double.encode_images(pictures) - run_image(image, pictures)).abs().max() <= 1e-10
        prompts = double.text.adapted(*double.text.lower(tokens))
        assert (prompts - run_text(text, tokens)).abs().max() <= 1e-10
