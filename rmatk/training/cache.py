"""Output of the frozen lower blocks, computed once and kept in memory or in a memory-mapped file.

Blocks below the first adapted one never change, and training sees each photo without augmentation (as in the
paper): their output for every photo and prompt is kept, and a step runs the adapted blocks only. The
frozen CLIP features that the consistency loss and zero-shot accuracy need come from the same pass.
:class:`ImageStream` is the way without a cache: every photo is read and run through all blocks at each step.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rmatk.data.photos import pixel_batches
from rmatk.method.model import AdaptedClip, mean_of_templates
from rmatk.training.augment import augmented
from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.errors import naming_storage_errors
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.pictures.preprocess import PreprocessSpec, normalise, preprocess

CacheMode = Literal["auto", "memory", "disk", "off"]
MEMORY_BUDGET = 2 << 30
"""Bytes of activations that ``auto`` keeps in memory: about 3,500 photos of a ViT-B/16."""
PROMPTS_AT_ONCE = 256
"""Prompts that go through the text tower together: about 0.5 GB of activations with ViT-B/16's."""
STEP_MEMORY = 2 << 30
"""Bytes of the text tower's activations that a step may keep for its backward pass."""
_KEPT_OF_A_BLOCK = 11  # measured: bytes that one block keeps for the backward pass, per byte of its input
_BATCH = 32


class PhotoBatches(Protocol):
    """Labelled photos as training reads them; ``labels`` (N,) int64 on the model's device."""

    @property
    def labels(self) -> Tensor:
        """The class index of every photo (N,) int64."""

    def batch(self, chosen: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        """Photos ``chosen`` (n,) int64 -> what the first adapted block reads (n, L, D), frozen (n, De).

        ``epoch``: which draw of random crops a source that augments gives; None: the photos as they are.
        """


@dataclass(frozen=True)
class ImageCache:
    """``x`` (N, L, D): what the first adapted block reads; ``frozen`` (N, De); ``labels`` (N,) int64.

    ``x`` may be in the computer's memory or on its disk while the others are on the model's device.
    """

    x: Tensor
    frozen: Tensor
    labels: Tensor

    def batch(self, chosen: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`PhotoBatches.batch`; every epoch is the same."""
        x = self.x[chosen.to(self.x.device)]
        if self.x.device != self.frozen.device:  # pinned memory is copied while the device goes on working
            x = x.pin_memory().to(self.frozen.device, non_blocking=True)
        return x, self.frozen[chosen]

    def split(self, count: int) -> tuple[ImageCache, ImageCache]:
        """The first ``count`` photos, and the rest."""
        return (
            ImageCache(self.x[:count], self.frozen[:count], self.labels[:count]),
            ImageCache(self.x[count:], self.frozen[count:], self.labels[count:]),
        )


@dataclass(frozen=True)
class ImageStream:
    """Photos read and run through the frozen blocks whenever they are asked for, nothing being kept.

    ``augment``: the seed of random crops and mirror images; None: none.
    """

    model: AdaptedClip
    files: tuple[Path, ...]
    labels: Tensor
    spec: PreprocessSpec
    augment: int | None

    @torch.no_grad()
    def batch(self, chosen: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`PhotoBatches.batch`.

        Raises:
            DataError: a photo that cannot be read any more.
        """
        pixels = np.stack([self._read(index, epoch) for index in chosen.tolist()])
        x, lengths = self.model.image.lower(torch.from_numpy(pixels).to(self.labels.device))
        return x, self.model.image.frozen(x, lengths)

    def split(self, count: int) -> tuple[ImageStream, ImageStream]:
        """The first ``count`` photos, and the rest."""
        parts = (slice(None, count), slice(count, None))
        first, rest = (
            ImageStream(self.model, self.files[p], self.labels[p], self.spec, self.augment) for p in parts
        )
        return first, rest

    def _read(self, index: int, epoch: int | None) -> Float32:
        image = load_image(self.files[index], Decoding(self.spec.stretch))
        if self.augment is not None and epoch is not None:
            image = augmented(image, self.spec, np.random.default_rng([self.augment, epoch, index]))
        return preprocess(image, self.spec)


@dataclass(frozen=True)
class TextCache:
    """The prompts of all classes, in parts that bound the memory of a step.

    ``parts``: what the first adapted block reads of up to :data:`PROMPTS_AT_ONCE` prompts (P, L, D), and
    their lengths (P,) or None; each is as long as its longest prompt, and prompts of like length are
    together. ``first``: how many tokens begin all prompts of a causal tower. ``place`` (C * T,) int64: where
    each prompt, class by class, stands in the joined parts. ``frozen`` (C, De).
    """

    parts: tuple[tuple[Tensor, Tensor | None], ...]
    place: Tensor
    frozen: Tensor
    templates: int
    first: int = 0

    def classes(self, prompts: Sequence[Tensor]) -> Tensor:
        """Features of every part's prompts (P, De) -> class embeddings (C, De), unit length."""
        return mean_of_templates(torch.cat(list(prompts))[self.place], self.templates)

    def _input(self, x: Tensor, lengths: Tensor | None) -> tuple[Any, ...]:
        """A part for :meth:`AdaptedTower.reconstructed`, what all its prompts begin with apart."""
        if not self.first or lengths is None or len(x) < 2:
            return x, lengths, None
        return x[:, self.first :], lengths - self.first, x[:1, : self.first]

    def notes(self, blocks: int) -> tuple[str, ...]:
        """What the prompts cost at every step of ``blocks`` adapted blocks; nothing where they are few."""
        if len(self.parts) == 1:
            return ()
        kept = sum(x.nbytes for x, _ in self.parts)
        used = self._activations(blocks)
        if used > STEP_MEMORY:
            used = _KEPT_OF_A_BLOCK * blocks * max(x.nbytes for x, _ in self.parts)
        return (
            f"{len(self.place)} prompts pass the text tower at every step, {PROMPTS_AT_ONCE} at a time: "
            f"{kept / 1e6:,.0f} MB are kept of them, and about {used / 1e6:,.0f} MB are used in a step",
        )

    def _activations(self, blocks: int) -> int:
        """Bytes that the backward pass of all parts would need at once, about."""
        read = sum(x.nbytes * (x.shape[1] - self.first) // x.shape[1] for x, _ in self.parts)
        return _KEPT_OF_A_BLOCK * blocks * read

    def reconstructed(self, model: AdaptedClip) -> tuple[Tensor, Tensor]:
        """Class embeddings (C, De) and the text tower's reconstruction error, as if all ran at once.

        Where all parts would need more than :data:`STEP_MEMORY`, none keeps its activations: the backward
        pass runs each once more. The error is a mean over real tokens, hence the parts' errors weighted by
        theirs.
        """
        run, inputs = model.text.reconstructed, [self._input(*part) for part in self.parts]
        if len(inputs) == 1:
            prompts, error = run(*inputs[0])
            return self.classes([prompts]), error
        if self._activations(len(model.text.blocks)) > STEP_MEMORY:
            done = [checkpoint(run, *part, use_reentrant=False) for part in inputs]
        else:
            done = [run(*part) for part in inputs]
        tokens = [float(x.shape[0] * x.shape[1] if n is None else n.sum()) for x, n in self.parts]
        errors = torch.stack([error for _, error in done])
        weights = errors.new_tensor(tokens) / sum(tokens)
        return self.classes([prompts for prompts, _ in done]), (weights * errors).sum()


@torch.no_grad()
def cache_images(
    model: AdaptedClip,
    files: Sequence[Path],
    labels: Sequence[int],
    spec: PreprocessSpec,
    on_images: Callable[[UInt8], None] = lambda pixels: None,
    *,
    mode: CacheMode = "memory",
    folder: Path | None = None,
) -> ImageCache:
    """Read photos and run the image tower's frozen part; ``on_images`` gets each batch (n, H, W, 3).

    Args:
        mode: ``auto`` keeps up to :data:`MEMORY_BUDGET` in memory and more than that on disk.
        folder: of the file; None: that of temporary files. The file has no name, so that it vanishes with the
            process, however that ends.

    Raises:
        DataError: naming every photo that cannot be read.
        StorageError: not enough space for the file.
    """
    device = model.backbone.device
    kept: Tensor | None = None
    frozen: list[Tensor] = []
    done = 0
    for pixels in pixel_batches(files, spec, _BATCH):
        x, lengths = model.image.lower(torch.from_numpy(normalise(pixels, spec)).to(device))
        if kept is None:
            kept = torch.from_numpy(_room((len(files), *x.shape[1:]), mode, folder))
        kept[done : done + len(x)] = x.cpu()
        done += len(x)
        frozen.append(model.image.frozen(x, lengths))
        on_images(pixels)
    assert kept is not None
    return ImageCache(kept, torch.cat(frozen), torch.tensor(labels, device=device))


def stream_images(
    model: AdaptedClip,
    files: Sequence[Path],
    labels: Sequence[int],
    spec: PreprocessSpec,
    on_images: Callable[[UInt8], None] = lambda pixels: None,
    *,
    augment: int | None = None,
) -> ImageStream:
    """Photos to be read at every step; they are read once here, to find now what cannot be read.

    Raises:
        DataError: naming every photo that cannot be read.
    """
    for pixels in pixel_batches(files, spec, _BATCH):
        on_images(pixels)
    return ImageStream(model, tuple(files), torch.tensor(labels, device=model.backbone.device), spec, augment)


@torch.no_grad()
def cache_texts(model: AdaptedClip, names: Sequence[str], templates: Sequence[str]) -> TextCache:
    """Run the text tower's frozen part over every class's prompts."""
    tokens = model.tokens(names, templates)
    tower: Any = model.text.tower
    lengths = None if tower.mask(1) is None else tower.lengths(tokens)
    order = torch.arange(len(tokens), device=tokens.device)
    first = 0
    if lengths is not None:
        order = lengths.argsort(stable=True) if len(tokens) > PROMPTS_AT_ONCE else order
        same = (tokens == tokens[:1]).all(dim=0)[: int(lengths.min()) - 1]
        first = int(same.int().cumprod(dim=0).sum())
    parts = [model.text.lower(tokens[own]) for own in torch.split(order, PROMPTS_AT_ONCE)]
    frozen = torch.cat([model.text.frozen(*part) for part in parts])
    place = order.argsort()
    return TextCache(
        tuple(parts), place, mean_of_templates(frozen[place], len(templates)), len(templates), first
    )


@torch.no_grad()
def class_logits(model: AdaptedClip, images: PhotoBatches, text: TextCache) -> tuple[Tensor, Tensor]:
    """(adapted, zero-shot) logits (N, C) of every photo, scaled, in float32 on the CPU."""
    classes = text.classes([model.text.adapted(*part) for part in text.parts])
    none = torch.empty(0, len(classes))
    adapted, frozen = [none], [none]
    everything = torch.arange(len(images.labels), device=images.labels.device)
    for chosen in torch.split(everything, _BATCH) if len(everything) else ():
        x, own = images.batch(chosen)
        adapted.append((model.logit_scale * model.image.adapted(x, None) @ classes.T).cpu())
        frozen.append((model.logit_scale * own @ text.frozen.T).cpu())
    return torch.cat(adapted), torch.cat(frozen)


def _room(shape: tuple[int, ...], mode: CacheMode, folder: Path | None) -> Float32:
    """An uninitialised array of this shape, in memory or in a file without a name."""
    size = 4 * math.prod(shape)
    if mode == "memory" or (mode == "auto" and size <= MEMORY_BUDGET):
        return np.empty(shape, np.float32)
    place = Path(tempfile.gettempdir()) if folder is None else folder
    with naming_storage_errors(place), tempfile.TemporaryFile(dir=place) as file:
        os.posix_fallocate(
            file.fileno(), 0, size
        )  # a full disk is an error here, and a crash in a mapped page
        return np.memmap(file, np.float32, "r+", shape=shape)
