"""A frozen CLIP by name: an embedded one, or an open_clip model of residual attention blocks.

Everything downstream relies on what is checked here: the towers are of a kind that can be adapted and folded,
the weights are really there (open_clip alone would go on with random ones), and the digest of the weights
is known, so that a run is never combined with another checkpoint.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.backbones.weights_file import check_weights_file, not_only_weights
from rmatk_export.readers.open_clip import read_image_tower, read_text_tower
from rmatk_runtime.errors import BackboneError, ExportError, MissingExtraError
from rmatk_runtime.pictures.modes import Stretch
from rmatk_runtime.pictures.preprocess import PreprocessSpec

SMALL, MICRO = "rmatk-small", "rmatk-micro"
EMBEDDED = {SMALL: "rmatk.backbones.small", MICRO: "rmatk.backbones.micro"}
"""Models that come with the package, and the modules that hold them."""
SUPPORTED = (
    "models of open_clip's residual attention blocks work: rmatk-small, ViT-B-32, ViT-B-16, ViT-L-14, "
    "ViT-H-14 and their -quickgelu variants (OpenAI, LAION, DataComp, MetaCLIP and DFN weights); so do those "
    "of timm's vision transformers: ViT-B-16-SigLIP, ViT-B-16-SigLIP2, ViT-SO400M-14-SigLIP, PE-Core-B-16"
)
OFFLINE_HINT = (
    "connect once so that the weights are cached and then set HF_HUB_OFFLINE=1, or give a local .safetensors,"
    f" .bin or .pt file to --pretrained, or use --model {SMALL}, which needs no download"
)
LOCAL_SUFFIXES = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class Backbone:
    """A frozen CLIP in evaluation mode and float32, with all that is needed to feed it.

    ``model``: open_clip's ``CLIP`` or ``CustomTextCLIP``. ``tokenize``: N texts -> (N, context) int64.
    ``tokenizer_json``: the tokenizer as a Hugging Face ``tokenizer.json``; None: ``tokenize`` is open_clip's.
    ``digest``: hex SHA-256 of the weights (see :func:`weights_digest`).
    """

    model: Any
    tokenize: Callable[[list[str]], Tensor]
    tokenizer_json: str | None
    preprocess: PreprocessSpec
    name: str
    pretrained: str | None
    digest: str

    def stretched(self, stretch: Stretch) -> Backbone:
        """The same, which reads 16-bit greyscale so."""
        return replace(self, preprocess=msgspec.structs.replace(self.preprocess, stretch=stretch))

    @property
    def text(self) -> Any:
        """Where the text modules lie: on the CLIP itself, or on its ``text``."""
        return getattr(self.model, "text", self.model)

    @property
    def eos_id(self) -> int | None:
        """The end-of-text token, or None where it is the highest number of each prompt."""
        pool, eos_id = _text_pooling(self.model)
        return eos_id if pool == "eos" else None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return torch.device(next(self.model.parameters()).device)

    @property
    def logit_scale(self) -> float:
        """exp(t), which multiplies cosines."""
        return float(self.model.logit_scale.exp())


def load_backbone(name: str, pretrained: str | None = None, device: str = "cpu") -> Backbone:
    """Load a CLIP.

    Args:
        name: ``rmatk-small`` or an open_clip model name.
        pretrained: an open_clip tag, or a local ``.safetensors``, ``.bin`` or ``.pt`` file (weights only: no
            code is ever unpickled).
        device: torch device.

    Raises:
        BackboneError: unknown model, tag or device, towers that cannot be adapted, weights that cannot be
            had or do not fit.
        MissingExtraError: open_clip is not installed.
    """
    _check_device(device)
    if name in EMBEDDED:
        return _load_embedded(name, pretrained, device)
    open_clip = open_clip_module()
    known = [*EMBEDDED, *open_clip.list_models()]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        raise BackboneError(
            f"unknown model {name!r}" + (f"; close to it: {', '.join(close)}" if close else ""), SUPPORTED
        )
    _check_config(name, open_clip.get_model_config(name))
    _check_pretrained(name, pretrained, open_clip.list_pretrained_tags_by_model(name))
    _check_activation(name, pretrained, open_clip)
    tokenize = _tokenizer(name, open_clip)
    try:
        model = open_clip.create_model(name, pretrained=pretrained, device=device)
    except pickle.UnpicklingError as error:
        raise not_only_weights(Path(str(pretrained))) from error
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise BackboneError(
            f"the weights {pretrained!r} of {name} cannot be loaded: {error}", OFFLINE_HINT
        ) from error
    return wrap(
        model,
        tokenize,
        None,
        PreprocessSpec.from_open_clip(model.visual.preprocess_cfg),
        name=name,
        pretrained=pretrained,
    )


def wrap(
    model: nn.Module,
    tokenize: Callable[[list[str]], Tensor],
    tokenizer_json: str | None,
    preprocess: PreprocessSpec,
    *,
    name: str,
    pretrained: str | None,
) -> Backbone:
    """Freeze a CLIP and describe it as a :class:`Backbone`.

    Raises:
        BackboneError: a tower of a kind that cannot be adapted.
    """
    _check_towers(name, model)
    model = model.eval().float().requires_grad_(False)
    return Backbone(model, tokenize, tokenizer_json, preprocess, name, pretrained, weights_digest(model))


def weights_digest(model: nn.Module) -> str:
    """Hex SHA-256 over (name, shape, little-endian float32 bytes) of the state dict, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def _load_embedded(name: str, pretrained: str | None, device: str) -> Backbone:
    if pretrained is not None:
        raise BackboneError(
            f"{name} carries its own weights; found --pretrained {pretrained}", "leave it out"
        )
    open_clip_module()
    embedded = importlib.import_module(EMBEDDED[name]).MODEL
    try:
        model = embedded.load().to(device)
    except FileNotFoundError as error:
        raise BackboneError(f"the weights of {name} are missing: {error}", "install rmatk again") from error
    return wrap(
        model,
        embedded.tokenize,
        embedded.tokenizer.to_str(),
        PreprocessSpec.from_open_clip(embedded.config()["preprocess_cfg"]),
        name=name,
        pretrained=None,
    )


def open_clip_module() -> Any:
    """open_clip, imported beside whatever torchvision this machine has."""
    try:
        import_torchvision()
        import open_clip
        from huggingface_hub.utils import logging as hub
    except ImportError as error:
        raise MissingExtraError(error.name or "open_clip", "train") from error
    hub.disable_propagation()  # it writes its warnings itself, and open_clip's root handler would once more
    return open_clip


def _tokenizer(name: str, open_clip: Any) -> Any:
    """The model's tokenizer, before gigabytes of weights are fetched in vain."""
    try:
        return open_clip.get_tokenizer(name)
    except ImportError as error:
        raise MissingExtraError(f"transformers, which reads the tokenizer of {name},", "siglip") from error
    except (OSError, ValueError) as error:
        raise BackboneError(f"the tokenizer of {name} cannot be loaded: {error}", OFFLINE_HINT) from error


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        raise BackboneError(f"--device {device} cannot be used here: {error}", "use --device cpu") from error


def _check_pretrained(name: str, pretrained: str | None, tags: list[str]) -> None:
    """A tag open_clip knows, or a file of weights."""
    choice = f"known tags of {name}: {', '.join(tags) or 'none'}; or a local {', '.join(LOCAL_SUFFIXES)} file"
    if pretrained is None:
        raise BackboneError(f"{name} needs --pretrained: without it its weights would be random", choice)
    if pretrained in tags:
        return
    if not Path(pretrained).is_file():
        if Path(pretrained).name != pretrained or pretrained.endswith(LOCAL_SUFFIXES):  # no tag is like this
            raise BackboneError(
                f"expected a file of weights in --pretrained, found nothing at {pretrained}", choice
            )
        raise BackboneError(f"expected a tag or a file in --pretrained, found {pretrained!r}", choice)
    if not pretrained.endswith(LOCAL_SUFFIXES):
        raise BackboneError(f"{pretrained} is not of a kind that is safe to read", choice)
    check_weights_file(name, Path(pretrained))


def _check_activation(name: str, pretrained: str | None, open_clip: Any) -> None:
    """Refuse weights trained with another activation; open_clip itself only warns and computes wrongly."""
    trained = open_clip.get_pretrained_cfg(name, pretrained)
    if not trained:  # a local file: it does not say
        return
    has = bool(open_clip.get_model_config(name).get("quick_gelu"))
    if has != bool(trained.get("quick_gelu")):
        other = name.removesuffix("-quickgelu") if has else f"{name}-quickgelu"
        own, wanted = ("QuickGELU", "GELU") if has else ("GELU", "QuickGELU")
        raise BackboneError(
            f"the weights {pretrained!r} were trained with {wanted}, {name} has {own}", f"--model {other}"
        )


def _check_config(name: str, config: dict[str, Any]) -> None:
    """Refuse by name, before any download, models whose towers could not be adapted."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if not vision.get("timm_model_name", "vit_").startswith("vit_"):
        raise _unsupported(name, f"a timm image tower that is no transformer ({vision['timm_model_name']})")
    if isinstance(vision.get("layers"), list):
        raise _unsupported(name, "a ResNet image tower")
    if "hf_model_name" in text:
        raise _unsupported(name, f"a Hugging Face text tower ({text['hf_model_name']})")


def _check_towers(name: str, model: Any) -> None:
    """Refuse what could never be exported: the export's readers are the one list of what works."""
    try:
        read_image_tower(model)
        read_text_tower(model)
    except (ExportError, AttributeError) as error:
        reason = error.message if isinstance(error, ExportError) else f"it is no CLIP ({error})"
        raise BackboneError(f"{name} cannot be adapted: {reason}", SUPPORTED) from error


def _text_pooling(model: Any) -> tuple[str, int]:
    """(pool type, end-of-text id) of the text tower, whose names differ between open_clip's two classes."""
    if hasattr(model, "text"):
        return getattr(model.text, "pool_type", "none"), getattr(model.text, "eos_id", -1)
    return model.text_pool_type, model.text_eos_id


def _unsupported(name: str, what: str) -> BackboneError:
    return BackboneError(f"{name} has {what}, which cannot be adapted yet", SUPPORTED)
