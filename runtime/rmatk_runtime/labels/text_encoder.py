"""Prompts to embeddings on the device: the bundle's own adapted text encoder and tokenizer, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import fill_in
from rmatk_runtime.bundle.text_cleaning import clean
from rmatk_runtime.bundle.tokenizer_file import encode_texts, import_tokenizers, load_tokenizer
from rmatk_runtime.errors import BackendError, BundleError
from rmatk_runtime.onnx_runtime.backend import create_session, run_session
from rmatk_runtime.onnx_runtime.trial import ensure_runs

_PROMPTS_AT_ONCE = 64
_AGAIN = "export again: rmatk export RUN -o BUNDLE"

Int64 = npt.NDArray[np.int64]


def tokenise(bundle: Bundle, prompts: Sequence[str]) -> tuple[Int64, int]:
    """N prompts -> ids (N, L) as the model's own tokenizer gives them, and how many columns are not padding.

    L is the encoder's context length; a prompt that is too long is cut and keeps its end-of-text token.

    Raises:
        MissingExtraError: tokenizers or ftfy is not installed.
        BundleError: the tokenizer does not fit the encoder.
    """
    text = bundle.manifest.text
    path = bundle.file(text.tokenizer)
    encodings = _encode(bundle, prompts)
    lengths = {len(encoding.ids) for encoding in encodings}
    if lengths - {text.context_length}:
        raise BundleError(
            f"{path}: expected every prompt cut and padded to {text.context_length} ids, "
            f"found {sorted(lengths)}",
            _AGAIN,
        )
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
    used = max((sum(encoding.attention_mask) for encoding in encodings), default=0)
    return ids.reshape(-1, text.context_length), used


def cut_prompts(bundle: Bundle, prompts: Sequence[str]) -> list[str]:
    """Those of the prompts that are longer than the text encoder reads. Raises MissingExtraError."""
    encodings = _encode(bundle, prompts)
    return [prompt for prompt, encoding in zip(prompts, encodings, strict=True) if encoding.overflowing]


def encode_prompts(bundle: Bundle, prompts: Sequence[str]) -> Float32:
    """N prompts -> (N, D) float32, unit length, computed on the CPU.

    Raises:
        MissingExtraError: tokenizers, ftfy or ONNX Runtime is not installed.
        BundleError: the tokenizer does not fit the encoder.
        BackendError: the text encoder does not run here.
    """
    tokens, used = tokenise(bundle, prompts)
    session = create_session(bundle.file(bundle.manifest.text.file))
    if isinstance(session.get_inputs()[0].shape[1], str):  # causal: padding after the end changes nothing
        tokens = tokens[:, :used]
    if not len(tokens):
        return np.empty((0, bundle.manifest.model.embed_dim), np.float32)
    return run_session(session, tokens, _PROMPTS_AT_ONCE)


def class_embeddings(bundle: Bundle, names: Sequence[str], templates: Sequence[str] | None = None) -> Float32:
    """C class names -> (C, D) float32, unit length: the mean over the templates, as in training.

    Args:
        bundle: a verified bundle.
        names: class names as words, at least one.
        templates: prompts with ``{}`` where the name goes; None: those the bundle's labels were made with.

    Raises:
        MissingExtraError, BundleError, BackendError: see :func:`encode_prompts`.
    """
    templates = bundle.manifest.labels.templates if templates is None else templates
    return mean_embeddings(bundle, [fill_in(templates, name) for name in names])


def mean_embeddings(bundle: Bundle, groups: Sequence[Sequence[str]]) -> Float32:
    """G groups of prompts, none empty -> (G, D) float32, unit length: the mean over each group's prompts.

    Raises:
        MissingExtraError, BundleError, BackendError: see :func:`encode_prompts`.
    """
    if not groups:
        return np.empty((0, bundle.manifest.model.embed_dim), np.float32)
    clean("", bundle.manifest.text.cleaning)  # what is not installed is named here, not by a child
    import_tokenizers()
    ensure_runs(bundle, bundle.manifest.text.file, run_prompt)
    embeddings = encode_prompts(bundle, [prompt for group in groups for prompt in group])
    ends = np.cumsum([len(group) for group in groups])[:-1]
    means = np.stack([part.mean(axis=0) for part in np.split(embeddings, ends)])
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and np.all(lengths > 0)):
        raise BackendError(
            f"{bundle.path}: the text encoder gave numbers that are not finite", "rmatk parity BUNDLE"
        )
    return np.asarray(means / lengths, dtype=np.float32)


def run_prompt(bundle: Bundle, file: str) -> Float32:
    """The embedding (1, D) of one prompt by the text encoder; a job for :func:`ensure_runs`."""
    return encode_prompts(bundle, bundle.manifest.labels.made_from(bundle.classes().names[0])[:1])


def _encode(bundle: Bundle, prompts: Sequence[str]) -> list[Any]:
    """The tokenizer's encodings of N prompts, cut and padded."""
    text = bundle.manifest.text
    path, cleaned = bundle.file(text.tokenizer), [clean(prompt, text.cleaning) for prompt in prompts]
    try:
        return encode_texts(load_tokenizer(path, text.context_length), cleaned)
    except ValueError as error:
        raise BundleError(f"{path} cannot be used: {error}", _AGAIN) from error
