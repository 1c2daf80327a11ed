"""The golden set: a few pictures with PyTorch's results, so that a device can check itself.

They are the user's own photos, or rendered ones where photos must not leave home. Each is kept before
preprocessing (uint8, any size), with the digest of the tensor that preprocessing must give and the embedding
that PyTorch gave. On a device without torch a wrong result is thus either the preprocessing's (digest
differs) or the engine's (embedding differs), never a guess.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision, GoldenSource
from rmatk_runtime.bundle.npz import read_npz, texts
from rmatk_runtime.errors import BundleError

_LARGEST_SIDE = 4096  # pixels; those that rmatk writes are smaller
_LONGEST_TEXT = 4096  # characters
_KINDS = {"names": "<U", "labels": "<U", "digests": "<U", "embeddings": "<f4", "image_*": "|u1"}


@dataclass(frozen=True)
class GoldenSet:
    """``images``: G arrays (H, W, 3) uint8 RGB; ``names``: where each came from; ``labels``: of photos the
    true class names ("" where unknown), of rendered pictures PyTorch's own answers; ``digests``:
    :func:`~rmatk_runtime.pictures.preprocess.tensor_digest` of each preprocessed tensor;
    ``embeddings`` (G, D) float32: PyTorch's, both branches present, unit length;
    ``source``: what kind of pictures they are."""

    images: tuple[UInt8, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    digests: tuple[str, ...]
    embeddings: Float32
    source: GoldenSource

    def __post_init__(self) -> None:
        columns = (self.images, self.names, self.labels, self.digests, self.embeddings)
        if not self.images or len({len(column) for column in columns}) != 1:
            raise ValueError("the golden set's arrays are of different lengths")

    def truth(self, known: Sequence[str]) -> tuple[str, ...] | None:
        """The true labels, where there are any and all are among ``known``; of rendered pictures never."""
        return self.labels if self.source == "photos" and set(self.labels) <= set(known) else None

    def answers(self, classes: ClassMatrix, decision: Decision) -> Reached:
        """What PyTorch answers on these pictures, given the current labels."""
        probabilities = LabelHead(classes, decision).probabilities(self.embeddings)
        ordered = np.sort(probabilities, axis=1)
        margins = ordered[:, -1] - ordered[:, -2] if len(classes.names) > 1 else ordered[:, -1]
        return Reached(
            classes=tuple(classes.names[best] for best in sorted(set(probabilities.argmax(axis=1).tolist()))),
            smallest_margin=float(margins.min()),
        )


@dataclass(frozen=True)
class Reached:
    """Which ``classes`` PyTorch answers with at least once, and by how much probability its least sure answer
    leads: what a golden set can see go wrong."""

    classes: tuple[str, ...]
    smallest_margin: float


def encode_golden(golden: GoldenSet) -> bytes:
    """The golden set as compressed ``.npz`` bytes (no pickled objects)."""
    arrays: dict[str, Any] = {f"image_{number:04d}": image for number, image in enumerate(golden.images)}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(golden.names, dtype=np.str_),
        labels=np.array(golden.labels, dtype=np.str_),
        digests=np.array(golden.digests, dtype=np.str_),
        embeddings=golden.embeddings,
        **arrays,
    )
    return buffer.getvalue()


def load_golden(path: Path, source: GoldenSource) -> GoldenSet:
    """Read a golden set; its manifest says of which ``source`` it is.

    Raises:
        BundleError: unreadable or inconsistent.
    """
    try:
        arrays = read_npz(path, _KINDS)
        images = tuple(arrays[name] for name in sorted(arrays) if name.startswith("image_"))
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or not all(0 < n <= _LARGEST_SIDE for n in image.shape):
                raise ValueError(f"a picture of shape {image.shape}")
        embeddings = arrays["embeddings"]
        if embeddings.ndim != 2 or not np.isfinite(embeddings).all():
            raise ValueError("embeddings that are not finite, or not a matrix")
        names, labels, digests = (texts(arrays[key], _LONGEST_TEXT) for key in ("names", "labels", "digests"))
        return GoldenSet(images, names, labels, digests, embeddings, source)
    except (KeyError, ValueError) as error:
        raise BundleError(f"{path}: the golden set cannot be used: {error}", "export again") from error
