"""The class matrix: names and unit-length text embeddings in one file beside the graph.

Labels therefore change without touching the image encoder or its engines; one file, so that names and rows
can never be of different ages.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle.npz import read_npz, texts
from rmatk_runtime.errors import BundleError

MOST_CLASSES = 65_536
LONGEST_NAME = 1000  # characters


@dataclass(frozen=True)
class ClassMatrix:
    """``names`` (C,) and ``embeddings`` (C, D) float32, each row of unit length."""

    names: tuple[str, ...]
    embeddings: Float32

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.names) or not self.names:
            raise ValueError(f"{len(self.names)} names but embeddings of shape {self.embeddings.shape}")
        if len(set(self.names)) != len(self.names):
            raise ValueError("two classes have the same name")
        lengths = np.linalg.norm(self.embeddings.astype(np.float64), axis=1)
        # Written so that NaN is refused too
        if not np.all(np.abs(lengths - 1.0) < 1e-3):
            raise ValueError("class embeddings are not of unit length")


def encode_classes(classes: ClassMatrix) -> bytes:
    """The class matrix as ``.npz`` bytes (no pickled objects)."""
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(classes.names, dtype=np.str_), embeddings=classes.embeddings)
    return buffer.getvalue()


def load_classes(path: Path) -> ClassMatrix:
    """Read a class matrix.

    Raises:
        BundleError: unreadable, or names and rows do not fit each other.
    """
    try:
        arrays = read_npz(path, {"names": "<U", "embeddings": "<f4"})
        if len(arrays["names"].reshape(-1)) > MOST_CLASSES:
            raise ValueError(f"more than {MOST_CLASSES} classes")
        return ClassMatrix(texts(arrays["names"], LONGEST_NAME), arrays["embeddings"])
    except (KeyError, ValueError) as error:
        raise BundleError(f"{path}: the class matrix cannot be used: {error}", "export again") from error
