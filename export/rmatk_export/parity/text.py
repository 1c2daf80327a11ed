"""The text side of an exported bundle against PyTorch: token ids and the class matrix."""

from __future__ import annotations

from collections.abc import Iterator

from rmatk_export.export_input import ExportSource
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import fill_in
from rmatk_runtime.labels.text_encoder import class_embeddings, tokenise
from rmatk_runtime.parity.compare import Expected, Judge, compare_embeddings
from rmatk_runtime.parity.stage import StageKind, StageResult, equality


def check_text(bundle: Bundle, source: ExportSource) -> Iterator[StageResult]:
    """The exported tokenizer gives PyTorch's ids, and the exported text encoder its class matrix."""
    names = source.classes.names
    prompts = [prompt for name in names for prompt in fill_in(source.templates, name)]
    ids, _ = tokenise(bundle, prompts)
    differ = (ids != source.class_tokens.reshape(len(prompts), -1)).any(axis=1)
    wrong = [prompt for prompt, other in zip(prompts, differ, strict=True) if other]
    difference = f"gives other ids for {len(wrong)} prompts, first {wrong[0]!r}" if wrong else None
    yield equality("tokenizer", StageKind.TOKENIZER, len(prompts), difference)
    yield compare_embeddings(
        "text encoder fp32",
        StageKind.TEXT,
        "fp32",
        Expected(names, source.classes.embeddings),
        class_embeddings(bundle, names),
        Judge.of(bundle),
    )
