"""The backbone and device to use where none is named.

The embedded rmatk-small is for trying out, tests and research; a CLIP trained on hundreds of millions of
photographs is far better. Where its weights are neither cached nor within reach, rmatk-small is used
instead, and a note says so.
"""

from __future__ import annotations

import urllib.error
import urllib.request

import torch

from rmatk.backbones import backbone
from rmatk.backbones.backbone import SMALL, Backbone

DEFAULT_MODEL, DEFAULT_PRETRAINED = "ViT-B-16-quickgelu", "openai"
"""CLIP as RMAdapter's paper uses it."""
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_SECONDS = 4.0


def load_chosen(model: str, pretrained: str | None, device: str) -> tuple[Backbone, tuple[str, ...]]:
    """The backbone that was named, or for ``auto`` the default; and notes on the choice.

    Raises:
        BackboneError, MissingExtraError: see :func:`rmatk.backbones.backbone.load_backbone`.
    """
    if model != "auto":
        return backbone.load_backbone(model, pretrained, device), ()
    if pretrained is not None or weights_at_hand():
        tag = pretrained or DEFAULT_PRETRAINED
        note = f"--model is not given: {DEFAULT_MODEL} with --pretrained {tag}"
        return backbone.load_backbone(DEFAULT_MODEL, tag, device), (note,)
    return backbone.load_backbone(SMALL, None, device), (
        f"--model is not given, and the weights of {DEFAULT_MODEL} ({DEFAULT_PRETRAINED}) are neither cached "
        f"nor within reach: {SMALL} is used, which is for trying out. "
        f"For products connect once, or give --model {DEFAULT_MODEL} --pretrained FILE",
    )


def chosen_device(name: str) -> str:
    """``auto``: the first GPU that torch can use, else the CPU; any other name as it is."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_note(device: torch.device) -> str:
    """Where it is computed, in words."""
    if device.type == "cuda":
        return f"device: {device} ({torch.cuda.get_device_name(device)})"
    return f"device: {device}, {torch.get_num_threads()} threads"


def weights_at_hand() -> bool:
    """Whether the default backbone's weights are cached, or the place they come from answers in seconds."""
    open_clip = backbone.open_clip_module()
    import huggingface_hub
    from huggingface_hub import constants

    repository = open_clip.get_pretrained_cfg(DEFAULT_MODEL, DEFAULT_PRETRAINED)["hf_hub"].strip("/")
    if any(isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str) for name in _WEIGHTS):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # it answers
    except (OSError, ValueError):
        return False
    return True
