"""Distilling the text tower: names, phrases and captions to their vectors in the joint space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lexicon import TEMPLATES
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

SHARPNESS = 20.0  # of the softmax over a batch's vectors
NAMES, PHRASES = 256, 64  # a batch


@dataclass(frozen=True)
class TextPairs:
    """``names`` with ``vectors`` (N, 256) drawn by ``weights``; ``phrases`` with their (M, 256)."""

    names: list[str]
    vectors: Tensor
    weights: np.ndarray[Any, np.dtype[np.float64]]
    phrases: list[str]
    phrase_vectors: Tensor


@contextmanager
def context_cut(model: Any, length: int) -> Iterator[None]:
    """Run the text tower on the first ``length`` positions: exact, it is causal and reads out at the end
    token.
    """
    position, mask = model.positional_embedding, model.attn_mask
    del model._parameters["positional_embedding"]
    model.positional_embedding, model.attn_mask = position[:length], mask[:length, :length]
    try:
        yield
    finally:
        del model.positional_embedding
        model.positional_embedding, model.attn_mask = position, mask


def encode(model: Any, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """N texts -> (N, 256), unit length; those of like length run together, so that little is padding."""
    ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(texts)])
    lengths = (ids != 0).sum(1)
    order = lengths.argsort()
    found = []
    for part in order.split(64):
        longest = int(lengths[part].max())
        with context_cut(model, longest):
            found.append(model.encode_text(ids[part, :longest], normalize=False).float())
    return F.normalize(torch.cat(found)[order.argsort()], dim=-1)


def distilled(found: Tensor, wanted: Tensor) -> Tensor:
    """Cosine distance, and how far the likenesses to all vectors of the batch are from the true ones."""
    truth = F.softmax(SHARPNESS * wanted @ wanted.T, dim=1)
    guess = F.log_softmax(SHARPNESS * found @ wanted.T, dim=1)
    spread = F.kl_div(guess, truth, reduction="batchmean")
    return spread + 2 * (1 - (found * wanted).sum(1).mean())


def text_loss(model: Any, tokenizer: Tokenizer, pairs: TextPairs, rng: np.random.Generator) -> Tensor:
    """The loss of one drawn batch of names in templates, and one of phrases."""
    rows = rng.choice(len(pairs.names), NAMES, p=pairs.weights)
    templates = rng.choice(len(TEMPLATES), NAMES)
    texts = [TEMPLATES[t].format(pairs.names[row]) for t, row in zip(templates, rows, strict=True)]
    others = rng.integers(len(pairs.phrases), size=PHRASES)
    # PyTorch's fused attention has a slow backward on the CPU for sequences as short as these
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype=torch.bfloat16):
        names = encode(model, tokenizer, texts)
        phrases = encode(model, tokenizer, [pairs.phrases[i] for i in others])
    return distilled(names, pairs.vectors[rows]) + 0.5 * distilled(phrases, pairs.phrase_vectors[others])
