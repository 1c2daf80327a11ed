"""Everything that a bundle is made from, gathered from a run and written by ``bundle_writer.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmatk_export.int8.search import CalibrationPhotos
from rmatk_export.tokenizer import ExportedTokenizer
from rmatk_export.weights import ImageStem, TextStem, Tower
from rmatk_runtime.arrays import Array
from rmatk_runtime.bundle.golden import GoldenSet
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision, ModelInfo, Precision
from rmatk_runtime.pictures.preprocess import PreprocessSpec


@dataclass(frozen=True)
class ExportSource:
    """All that a bundle is made of.

    ``image``, ``text``: the towers with their adapters; ``class_tokens`` (C, T, L) int64: every class'
    prompt under each of T templates, from which ``classes`` were embedded by PyTorch; ``tokenizer``: what
    gives those ids; ``golden`` with PyTorch's embeddings; ``ship_golden``:
    whether the bundle contains its pictures; ``checkpoint``: every adapter tensor as trained, both
    branches, by name; ``precisions`` of the image encoder, the first being the default on a device;
    ``pixels``: whether each also comes with its normalisation inside; ``calibration``: what int8 is measured
    on and judged by, needed where ``precisions`` names it.
    """

    image: Tower[ImageStem]
    text: Tower[TextStem]
    preprocess: PreprocessSpec
    classes: ClassMatrix
    class_tokens: npt.NDArray[np.int64]
    templates: tuple[str, ...]
    tokenizer: ExportedTokenizer
    decision: Decision
    model: ModelInfo
    golden: GoldenSet
    ship_golden: bool
    checkpoint: Mapping[str, Array]
    run_digest: str
    adapter_digest: str
    versions: dict[str, str]
    precisions: tuple[Precision, ...] = ("fp32",)
    pixels: bool = False
    calibration: CalibrationPhotos | None = None
