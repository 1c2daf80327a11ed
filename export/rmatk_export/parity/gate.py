"""The gate: a bundle that does not give what PyTorch gave is not left on disk.

Each stage compares with the trained model, both branches present, on the golden pictures; they run in the
data's order, so that the first bad one is where something was lost.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rmatk_export.export_input import ExportSource
from rmatk_export.parity.folded import run_image
from rmatk_export.weights import FoldedTower, ImageStem
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import ParityError
from rmatk_runtime.golden_check import check_golden, open_engines
from rmatk_runtime.labels.text_encoder import class_embeddings, tokenise
from rmatk_runtime.parity.compare import TOLERANCES, StageResult, compare_embeddings
from rmatk_runtime.pictures.preprocess import preprocess


def run_gate(
    bundle: Bundle, source: ExportSource, image: FoldedTower[ImageStem], out: Path
) -> list[StageResult]:
    """Check everything just written, in the folder where it lies before it becomes ``out``.

    Raises:
        ParityError: naming the first bad stage.
    """
    with open_engines(bundle, "cpu") as engines:
        preprocessing, *graphs = check_golden(bundle, engines)
    stages = [preprocessing, _check_fold(source, image), *graphs]
    stages += [_check_tokenizer(bundle, source), _check_text(bundle, source)]
    for stage in stages:
        if not stage:
            raise ParityError(
                f"{out} was not written: the stage '{stage.stage}' {stage.reason}",
                "rmatk doctor shows the versions in use; other versions of onnxruntime may compute rightly",
            )
    return stages


def _check_fold(source: ExportSource, image: FoldedTower[ImageStem]) -> StageResult:
    """The folded arrays, run by PyTorch, must give what the trained model gave."""
    golden = source.golden
    tensors = np.stack([preprocess(picture, source.preprocess) for picture in golden.images])
    return compare_embeddings(
        "torch folded",
        golden.embeddings,
        run_image(image, torch.from_numpy(tensors)).numpy(),
        classes=source.classes,
        decision=source.decision,
        tolerance=TOLERANCES["fp32"],
        names=golden.names,
        truth=golden.truth(source.classes.names),
    )


def _check_tokenizer(bundle: Bundle, source: ExportSource) -> StageResult:
    """The exported tokenizer must give the ids that the class matrix was embedded from."""
    prompts = [t.replace("{}", name) for name in source.classes.names for t in source.templates]
    ids, _ = tokenise(bundle, prompts)
    differ = (ids != source.class_tokens.reshape(len(prompts), -1)).any(axis=1)
    wrong = [prompt for prompt, other in zip(prompts, differ, strict=True) if other]
    reason = f"gives other ids for {len(wrong)} prompts, first {wrong[0]!r}" if wrong else None
    return StageResult(
        stage="tokenizer", images=len(prompts), passed=not wrong, reason=reason, tolerance=None
    )


def _check_text(bundle: Bundle, source: ExportSource) -> StageResult:
    """The exported text encoder must give the class matrix that PyTorch gave."""
    return compare_embeddings(
        "text encoder fp32",
        source.classes.embeddings,
        class_embeddings(bundle, source.classes.names),
        classes=source.classes,
        decision=source.decision,
        tolerance=TOLERANCES["fp32"],
        names=source.classes.names,
    )
