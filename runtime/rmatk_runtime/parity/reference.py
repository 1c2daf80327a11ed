"""What candidates are compared with, and the reference that a bundle carries: its golden set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.golden import GoldenSet
from rmatk_runtime.errors import BundleError
from rmatk_runtime.parity.stage import StageKind, StageResult, equality
from rmatk_runtime.pictures.preprocess import PreprocessSpec, normalise, preprocess, resize, tensor_digest


@dataclass(frozen=True)
class Batch:
    """N images, after the exact preprocessing.

    ``pixels`` (N, H, W, 3) uint8 RGB, resized; ``tensors`` (N, 3, H, W) float32, normalised; ``embeddings``
    (N, D) float32, unit length: the reference's; ``picture``: number -> that image before preprocessing,
    opened when it is called.
    """

    pixels: UInt8
    tensors: Float32
    embeddings: Float32
    picture: Callable[[int], Image.Image | UInt8]


class Reference(Protocol):
    """Images with the embeddings that count as right."""

    @property
    def basis(self) -> str:
        """What candidates are compared with, and on which images, in words."""

    @property
    def names(self) -> Sequence[str]:
        """The image names, in the order of :meth:`batches`."""

    def truth(self, known: Sequence[str]) -> Sequence[str] | None:
        """The true class names of all images, or None where any is unknown or not among ``known``."""

    def checks(self) -> Iterable[StageResult]:
        """Stages that need no candidate, preprocessing first; evaluated one by one."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All images, at most ``size`` at once."""

    def picture(self, name: str) -> Image.Image | UInt8:
        """An image by its name, before preprocessing."""


class GoldenReference:
    """A golden set as a reference: PyTorch's embeddings, recorded at export.

    Args:
        golden: the pictures with their embeddings and the digests of their tensors.
        spec: the preprocessing to check.
    """

    def __init__(self, golden: GoldenSet, spec: PreprocessSpec) -> None:
        self._golden, self._spec = golden, spec
        self.names = golden.names
        kind, end = "training photos", "; it was trained on them, so accuracy on them is not that on new ones"
        if golden.source == "rendered":
            kind, end = "rendered pictures", "; they have no true label, so nothing is said of accuracy"
        place = f"on the {len(self.names)} {kind} that the bundle carries{end}"
        self.basis = f"against what PyTorch gave at export, {place}"

    @classmethod
    def of(cls, bundle: Bundle) -> GoldenReference:
        """The golden set that a bundle carries. Raises BundleError where it carries none."""
        return cls(golden_of(bundle), bundle.manifest.preprocess)

    def truth(self, known: Sequence[str]) -> Sequence[str] | None:
        """See :meth:`Reference.truth`."""
        return self._golden.truth(known)

    def checks(self) -> Iterator[StageResult]:
        """Whether the pictures give, on this machine, the same tensors as at export."""
        golden, spec = self._golden, self._spec
        wrong = [
            name
            for name, digest, image in zip(golden.names, golden.digests, golden.images, strict=True)
            if tensor_digest(preprocess(image, spec)) != digest
        ]
        reason = None
        if wrong:
            reason = f"{len(wrong)} of {len(golden.names)} tensors differ from the export's, first {wrong[0]}"
        yield equality("preprocessing", StageKind.PREPROCESSING, len(golden.names), reason)

    def batches(self, size: int) -> Iterator[Batch]:
        """See :meth:`Reference.batches`."""
        golden = self._golden
        for start in range(0, len(golden.images), size):
            images = golden.images[start : start + size]
            pixels = np.stack([resize(image, self._spec) for image in images])
            embeddings = golden.embeddings[start : start + size]
            yield Batch(pixels, normalise(pixels, self._spec), embeddings, images.__getitem__)

    def picture(self, name: str) -> UInt8:
        """See :meth:`Reference.picture`."""
        return self._golden.images[self.names.index(name)]


def golden_of(bundle: Bundle) -> GoldenSet:
    """The golden set that a bundle carries.

    Raises:
        BundleError: it carries none.
    """
    golden = bundle.golden()
    if golden is None:
        raise BundleError(
            f"{bundle.path} was exported without a golden set",
            "export with one (--golden rendered holds none of your photos), or check against the run: "
            "rmatk parity BUNDLE DATA --against RUN",
        )
    return golden
