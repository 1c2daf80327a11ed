"""What the frozen lower blocks give, computed once and kept in memory.

Blocks below the first adapted one never change, and training sees each photo without augmentation (as in the
paper): their output for every photo and prompt is kept, and a step runs the adapted blocks only. The
frozen CLIP features that the consistency loss and zero-shot accuracy need come from the same pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rmatk.data import image_batches
from rmatk.model import AdaptedClip, mean_of_templates
from rmatk_runtime.preprocess import PreprocessSpec

_BATCH = 32


@dataclass(frozen=True)
class ImageCache:
    """``x`` (N, L, D): what the first adapted block reads; ``frozen`` (N, De); ``labels`` (N,) int64."""

    x: Tensor
    frozen: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TextCache:
    """``x`` (C * T, L, D): what the first adapted block reads; ``lengths`` (C * T,); ``frozen`` (C, De)."""

    x: Tensor
    lengths: Tensor | None
    frozen: Tensor
    templates: int


@torch.no_grad()
def cache_images(
    model: AdaptedClip,
    files: Sequence[Path],
    labels: Sequence[int],
    spec: PreprocessSpec,
    on_images: Callable[[int], None] = lambda count: None,
) -> ImageCache:
    """Read photos and run the image tower's frozen part; ``on_images`` hears how many each batch had.

    Raises:
        DataError: naming every photo that cannot be read.
    """
    device = model.backbone.device
    kept, frozen = [], []
    for images in image_batches(files, spec, _BATCH):
        x, lengths = model.image.lower(torch.from_numpy(images).to(device))
        kept.append(x)
        frozen.append(model.image.frozen(x, lengths))
        on_images(len(images))
    return ImageCache(torch.cat(kept), torch.cat(frozen), torch.tensor(labels, device=device))


@torch.no_grad()
def cache_texts(model: AdaptedClip, names: Sequence[str], templates: Sequence[str]) -> TextCache:
    """Run the text tower's frozen part over every class's prompts."""
    x, lengths = model.text.lower(model.tokens(names, templates))
    frozen = mean_of_templates(model.text.frozen(x, lengths), len(templates))
    return TextCache(x, lengths, frozen, len(templates))


def class_embeddings(model: AdaptedClip, text: TextCache) -> Tensor:
    """Adapted class embeddings (C, De), unit length, from kept activations."""
    return mean_of_templates(model.text.adapted(text.x, text.lengths), text.templates)


@torch.no_grad()
def accuracies(model: AdaptedClip, images: ImageCache, text: TextCache) -> tuple[float, float]:
    """(adapted, zero-shot) top-1 accuracy over kept photos, in [0, 1]."""
    classes = class_embeddings(model, text)
    adapted = torch.cat([model.image.adapted(x, None) for x in torch.split(images.x, _BATCH)])
    return top1(adapted, classes, images.labels), top1(images.frozen, text.frozen, images.labels)


def top1(features: Tensor, classes: Tensor, labels: Tensor) -> float:
    """Share of features (N, De) whose nearest class embedding (C, De) is their label's (N,)."""
    return (features @ classes.T).argmax(dim=-1).eq(labels).float().mean().item()
