"""Parity of graphs and engines that take pixels at the network's size, with the normalisation inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BundleError
from rmatk_runtime.manifest import Precision
from rmatk_runtime.parity import StageResult, compare_embeddings
from rmatk_runtime.preprocess import Float32, UInt8, resize


def check_pixels(
    bundle: Bundle, name: str, precision: Precision, embed: Callable[[UInt8], Float32]
) -> StageResult:
    """Compare on the golden pictures, resized by the one preprocessing.

    Args:
        bundle: its golden set, classes and tolerances are used.
        name: of the stage.
        precision: of the graph.
        embed: (N, H, W, 3) uint8 RGB at the network's size -> (N, D) float32.

    Raises:
        BundleError: the bundle carries no golden set.
    """
    golden, manifest, classes = bundle.golden(), bundle.manifest, bundle.classes()
    if golden is None:
        raise BundleError(f"{bundle.path} was exported without a golden set", "export with one")
    return compare_embeddings(
        name,
        golden.embeddings,
        embed(np.stack([resize(picture, manifest.preprocess) for picture in golden.images])),
        classes=classes,
        decision=manifest.decision,
        tolerance=manifest.tolerances[precision],
        names=golden.names,
        truth=golden.truth(classes.names),
    )
