"""New labels on the device: the same embeddings as PyTorch's, from the bundle alone."""

from __future__ import annotations

import builtins
import dataclasses

import msgspec
import numpy as np
import pytest
import torch

from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.config import TrainConfig
from rmatk.deployment.from_run import export_source
from rmatk.method.model import AdaptedClip
from rmatk.run import restore
from rmatk.training.train import train
from rmatk_export.bundle_writer import write_bundle
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BundleError, MissingExtraError
from rmatk_runtime.labels.text_encoder import class_embeddings, encode_prompts, tokenise

NAMES = ("red_stripe", "CAFÉ au lait", "R&amp;D part", "schÃ¶ne  Tüte", "it's 42 " * 40, "日本")
TEMPLATES = ("a photo of a {}.", "a blurry {}, cropped")


@pytest.fixture(scope="module")
def clip_like(tmp_path_factory: pytest.TempPathFactory, tiny_clip, draw_photos) -> tuple[Bundle, AdaptedClip]:
    """A tiny model with CLIP's own tokenizer, trained and exported."""
    import_torchvision()
    import open_clip

    backbone = dataclasses.replace(
        tiny_clip(context_length=77, vocab_size=49408),
        tokenize=open_clip.get_tokenizer("ViT-B-16"),
        tokenizer_json=None,
    )
    root = tmp_path_factory.mktemp("clip-like")
    data = draw_photos(root / "photos", {"red_stripe": 4, "blue_dot": 4})
    run = train(
        TrainConfig(model=backbone.name, shots=2, epochs=1, lr=0.02, rank=4), backbone, data, root / "run"
    )
    write_bundle(export_source(run, backbone), root / "bundle")
    return Bundle.open(root / "bundle"), restore(run, backbone)


def test_class_embeddings_are_pytorchs(clip_like):
    bundle, model = clip_like
    found = class_embeddings(bundle, NAMES, TEMPLATES)
    assert found.dtype == np.float32 and found.shape == (6, 24)
    expected = model.class_embeddings(NAMES, TEMPLATES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    frozen = model.class_embeddings(NAMES, TEMPLATES, frozen=True)
    assert np.abs(frozen.numpy() - found).max() > 1e-3  # it is the adapted encoder


def test_the_bundles_own_labels_come_out_again(clip_like):
    bundle, _ = clip_like
    classes = bundle.classes()
    np.testing.assert_allclose(class_embeddings(bundle, classes.names), classes.embeddings, atol=1e-5)


def test_prompts_are_cleaned_cut_and_padded(clip_like):
    bundle, model = clip_like
    assert bundle.manifest.text.cleaning == "lower"
    ids, used = tokenise(bundle, NAMES)
    assert ids.dtype == np.int64 and used == 77
    np.testing.assert_array_equal(ids, model.backbone.tokenize(list(NAMES)))
    ids, used = tokenise(bundle, ["a dog", "a"])
    assert ids.shape == (2, 77) and used == 4


def test_many_prompts_and_none(clip_like):
    bundle, model = clip_like
    prompts = [f"thing {number}" for number in range(70)]
    found = encode_prompts(bundle, prompts)
    with torch.no_grad():
        tokens = model.backbone.tokenize(prompts)
        expected = model.text.adapted(*model.text.lower(tokens))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encode_prompts(bundle, []).shape == (0, 24)


def test_a_tokenizer_of_another_length_is_refused(clip_like):
    bundle, _ = clip_like
    shorter = msgspec.structs.replace(bundle.manifest.text, context_length=16)
    other = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, text=shorter))
    with pytest.raises(BundleError, match="does not cut texts to 16 ids"):
        encode_prompts(other, ["a dog"])


@pytest.mark.parametrize("package", ["tokenizers", "ftfy"])
def test_missing_packages_are_named_with_their_extra(clip_like, monkeypatch, package: str):
    bundle, _ = clip_like
    sound = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == package:
            raise ImportError(name)
        return sound(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=f"{package}.* is not installed") as caught:
        encode_prompts(bundle, ["a dog"])
    assert caught.value.hint == "pip install 'rmatk[labels]'"
