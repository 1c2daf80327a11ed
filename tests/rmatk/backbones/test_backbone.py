from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from rmatk.backbones.backbone import load_backbone, weights_digest, wrap
from rmatk_runtime.errors import BackboneError, MissingExtraError
from rmatk_runtime.pictures.preprocess import PreprocessSpec


def test_it_is_frozen_float32_and_in_evaluation_mode(tiny):
    assert not tiny.model.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in tiny.model.parameters())
    assert tiny.logit_scale == pytest.approx(1 / 0.07)


def test_warnings_of_the_hub_are_shown_once():
    script = """
import logging
from rmatk.backbones.backbone import load_backbone
load_backbone("rmatk-micro")
logging.warning("open_clip says something, and a root handler is there")
logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.count("Retrying in 1s") == 1 and "a root handler" in done.stderr


def test_the_digest_tells_weights_apart_and_nothing_else(tiny_clip):
    assert tiny_clip(seed=1).digest == tiny_clip(seed=1).digest
    assert tiny_clip(seed=1).digest != tiny_clip(seed=2).digest
    changed = tiny_clip(seed=1)
    changed.model.logit_scale.data += 1e-6
    assert weights_digest(changed.model) != changed.digest


def test_the_digest_covers_names_and_shapes():
    def digest(name, *shape):
        return weights_digest(torch.nn.ParameterDict({name: torch.zeros(shape)}))

    assert len({digest("a", 2, 3), digest("b", 2, 3), digest("a", 3, 2)}) == 3


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-61", "openai", r"unknown model 'ViT-B-61'; close to it: .*ViT-B-16"),
        ("nothing like it", None, "unknown model 'nothing like it'"),
        ("ViT-B-16", None, "needs --pretrained"),
        ("ViT-B-16", "openia", "expected a tag or a file in --pretrained, found 'openia'"),
        ("ViT-B-16", "./clip", "in --pretrained, found nothing at ./clip"),
        ("ViT-B-16", "clip.safetensors", "in --pretrained, found nothing at clip.safetensors"),
        ("RN50", "openai", "RN50 has a ResNet image tower"),
        ("ViT-B-16", "openai", "trained with QuickGELU, ViT-B-16 has GELU"),
        ("convnext_base", "laion400m_s13b_b51k", "a timm image tower that is no transformer"),
        ("MobileCLIP-S1", "datacompdr", "a timm image tower that is no transformer"),
        ("roberta-ViT-B-32", "laion2b_s12b_b32k", "Hugging Face text tower"),
        ("rmatk-micro", "openai", "carries its own weights"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(name, pretrained, message):
    with pytest.raises(BackboneError, match=message) as caught:
        load_backbone(name, pretrained)
    assert caught.value.hint


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(BackboneError, match="--device nowhere cannot be used here"):
        load_backbone("rmatk-micro", device="nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"no_causal_mask": True}, r"text tower \(pooling 'argmax'\)"),
        ({"pool_type": "last"}, r"text tower \(pooling 'last'\)"),
        ({"vision": {"attentional_pool": True, "attn_pooler_heads": 2}}, "image tower VisionTransformer"),
        ({"vision": {"scale_heads": True}}, "CustomResidualAttentionBlock"),
    ],
)
def test_towers_that_cannot_be_adapted_are_refused(tiny_clip, changes, message):
    with pytest.raises(BackboneError, match=message):
        tiny_clip(custom_text=True, **changes)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_from_a_local_file_without_unpickling_code(tiny, tmp_path, monkeypatch, suffix):
    import open_clip

    path = tmp_path / f"weights{suffix}"
    state = tiny.model.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    config = {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 3},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", config)
    loaded = load_backbone("tiny-test", str(path))
    assert loaded.digest == tiny.digest
    assert loaded.preprocess == PreprocessSpec.from_open_clip(loaded.model.visual.preprocess_cfg)
    assert loaded.tokenize(["a cat"]).shape == (1, 16)

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("code was unpickled",))

    bad = tmp_path / "bomb.pt"
    torch.save({"state_dict": Bomb()}, bad)
    with pytest.raises(BackboneError, match="holds Python objects besides weights"):
        load_backbone("tiny-test", str(bad))
    (tmp_path / "weights.pickle").write_bytes(b"")
    with pytest.raises(BackboneError, match="not of a kind that is safe to read"):
        load_backbone("tiny-test", str(tmp_path / "weights.pickle"))


def test_without_a_network_the_error_says_what_to_do(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", offline)
    with pytest.raises(BackboneError, match="'openai' of ViT-B-32-quickgelu cannot be loaded") as caught:
        load_backbone("ViT-B-32-quickgelu", "openai")
    assert "HF_HUB_OFFLINE" in caught.value.hint


def test_a_tower_of_another_kind_is_refused_when_wrapped(tiny):
    class Other(torch.nn.Module):
        visual = torch.nn.Linear(1, 1)

    with pytest.raises(BackboneError, match="image tower Linear"):
        wrap(Other(), tiny.tokenize, None, tiny.preprocess, name="other", pretrained=None)


def test_siglip_names_the_extra_that_reads_its_tokenizer(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="reads the tokenizer of ViT-B-16-SigLIP") as caught:
        load_backbone("ViT-B-16-SigLIP", "webli")
    assert caught.value.hint == "pip install 'rmatk[siglip]'"
