"""Selects the pictures of a bundle's golden set: the user's photos, or rendered ones.

Both kinds are chosen alike: more candidates than are kept, and of these the pictures that PyTorch is least
sure of. A small margin between the two best labels is the first to flip when numbers drift; one below
:data:`TIE` flips by rounding alone, which says nothing about an engine. Rendered pictures show as much of
preprocessing and engines as photos do, and nothing of accuracy: they have no true label.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rmatk.data.photos import Dataset
from rmatk.method.model import AdaptedClip
from rmatk.scenes import draw_scene, render
from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.bundle.golden import GoldenSet
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import GoldenSource
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.pictures.preprocess import PreprocessSpec, preprocess, tensor_digest

GOLDEN_IMAGES = 32
# Of a cosine. On 420 photos with rmatk-micro, fp16 moved cosines by 0.0001 at most and flipped no label; int8
# flipped three, the surest of which had led by 0.00099.
TIE = 1e-3
_SIDE = 512  # longer side in pixels: a golden set of camera pictures would outweigh the model
_CANDIDATES = 128  # rendered, and most not kept
_SEED = 0
# (width, height): smaller and larger than a network's input, odd numbers of pixels on either side of the crop
# (off by one: ultralytics/ultralytics #3050), upright, flat, and as wide as a panorama.
_SHAPES = ((97, 61), (160, 120), (240, 320), (320, 240), (131, 389), (511, 173), (333, 517), (500, 375))


def photo_golden(model: AdaptedClip, photos: Dataset, classes: ClassMatrix, count: int) -> GoldenSet:
    """The ``count`` photos that PyTorch is least sure of, every class being there at least once.

    Raises:
        DataError: a photo that cannot be read.
    """
    files, labels = photos.flat()
    images = [_shrunk(file, model.backbone.preprocess) for file in files]
    embeddings = embed(model, images, model.backbone.preprocess)
    chosen = _hardest(embeddings @ classes.embeddings.T, count, labels)
    return _golden_set(
        model,
        images=[images[i] for i in chosen],
        names=[photos.relative()[i] for i in chosen],
        labels=[photos.class_names[labels[i]] for i in chosen],
        embeddings=embeddings[chosen],
        source="photos",
    )


def rendered_golden(
    model: AdaptedClip, classes: ClassMatrix, count: int = GOLDEN_IMAGES, candidates: int = _CANDIDATES
) -> GoldenSet:
    """``count`` of so many rendered ``candidates``, in varied sizes; more, if so many classes are reached.

    Of every size and of every class that PyTorch answered with at least one is kept, and then those it is
    least sure of. The labels are its own answers.
    """
    spec = model.backbone.preprocess
    shapes = [(spec.width, spec.height), *_SHAPES]
    sizes = [shapes[number % len(shapes)] for number in range(candidates)]
    images = rendered(sizes)
    embeddings = embed(model, images, spec)
    cosines = embeddings @ classes.embeddings.T
    answers = [classes.names[best] for best in cosines.argmax(axis=1)]
    chosen = _hardest(cosines, count, answers, sizes)
    return _golden_set(
        model,
        images=[images[i] for i in chosen],
        names=[f"rendered_{i:03d}_{sizes[i][0]}x{sizes[i][1]}" for i in chosen],
        labels=[answers[i] for i in chosen],
        embeddings=embeddings[chosen],
        source="rendered",
    )


def rendered(sizes: Sequence[tuple[int, int]], seed: int = _SEED) -> list[UInt8]:
    """One random scene per (width, height): (height, width, 3) uint8 RGB, the middle of a square picture.

    Equal seeds and sizes give equal pictures.
    """
    rng = np.random.default_rng(seed)
    return [_middle(render(draw_scene(rng), max(size)), *size) for size in sizes]


def embed(model: AdaptedClip, images: Sequence[UInt8], spec: PreprocessSpec, batch: int = 32) -> Float32:
    """PyTorch's embeddings (N, D), both branches present, of N pictures (H, W, 3) uint8 RGB."""
    parts = []
    for start in range(0, len(images), batch):
        tensors = np.stack([preprocess(image, spec) for image in images[start : start + batch]])
        parts.append(model.encode_images(torch.from_numpy(tensors)).cpu().numpy())
    return np.concatenate(parts)


def _hardest(cosines: Float32, count: int, *groupings: Sequence[Hashable]) -> npt.NDArray[np.intp]:
    """Of N pictures the ``count`` with the smallest margins, in ascending order of their indices.

    Ties come last. The hardest of every group is among them, whatever ``count`` is; each grouping names N
    groups.
    """
    ordered = np.sort(cosines, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    hardest = np.lexsort((margins, margins < TIE)).tolist()
    kept = dict.fromkeys(
        i for groups in groupings for i in {groups[i]: i for i in reversed(hardest)}.values()
    )
    rest = [i for i in hardest if i not in kept]
    return np.array(sorted([*kept, *rest[: max(0, count - len(kept))]]))


def _golden_set(
    model: AdaptedClip,
    *,
    images: list[UInt8],
    names: list[str],
    labels: list[str],
    embeddings: Float32,
    source: GoldenSource,
) -> GoldenSet:
    spec = model.backbone.preprocess
    return GoldenSet(
        images=tuple(images),
        names=tuple(names),
        labels=tuple(labels),
        digests=tuple(tensor_digest(preprocess(image, spec)) for image in images),
        embeddings=embeddings,
        source=source,
    )


def _shrunk(file: Path, spec: PreprocessSpec) -> UInt8:
    """A picture no larger than the golden set needs."""
    image = load_image(file, Decoding(spec.stretch))
    image.thumbnail((_SIDE, _SIDE))
    return np.asarray(image)


def _middle(image: UInt8, width: int, height: int) -> UInt8:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
