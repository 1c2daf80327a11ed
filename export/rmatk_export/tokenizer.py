"""open_clip's tokenizers as a Hugging Face ``tokenizer.json``, which needs no torch to be used.

The file is made from the very tokenizer that open_clip holds in memory: CLIP's byte-pair encoding is written
from its vocabulary and merges, SigLIP's sentencepiece is a Hugging Face tokenizer already. It expects cleaned
text: open_clip repairs texts and resolves HTML entities first, which no ``tokenizer.json`` can express, so
the cleaning is named beside it and done by ``rmatk_runtime.bundle.text_cleaning``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase, Replace, Sequence, Strip
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import TemplateProcessing

from rmatk_runtime.bundle.text_cleaning import Cleaning
from rmatk_runtime.errors import ExportError

# open_clip's pattern ignores case, and so drops the one mark whose other case is a letter: U+0345 (iota).
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"


@dataclass(frozen=True)
class ExportedTokenizer:
    """``json``: a Hugging Face ``tokenizer.json`` that cuts and pads to the context length; ``cleaning``:
    what texts go through before it."""

    json: str
    cleaning: Cleaning


def export_tokenizer(tokenizer: Any) -> ExportedTokenizer:
    """An open_clip ``SimpleTokenizer`` (CLIP's byte-pair encoding) or ``HFTokenizer`` (SigLIP's).

    Raises:
        ExportError: a tokenizer of another kind, or one that alters ids afterwards.
    """
    kind = type(tokenizer).__name__
    if kind == "SimpleTokenizer" and tokenizer.reduction_fn is None:
        return ExportedTokenizer(_clip_json(tokenizer), _cleaning(tokenizer))
    if kind == "HFTokenizer" and not (tokenizer.tokenizer_mode or tokenizer.strip_sep_token):
        return ExportedTokenizer(_hugging_face_json(tokenizer), _cleaning(tokenizer))
    raise ExportError(f"the tokenizer {kind} is not covered", "CLIP's and SigLIP's own are")


def _cleaning(tokenizer: Any) -> Cleaning:
    """The name of open_clip's cleaning function, which is all that its tokenizers keep of it."""
    found = str(tokenizer.clean_fn.__name__).removeprefix("_clean_")
    known: dict[str, Cleaning] = {name: name for name in get_args(Cleaning)}
    if found not in known:
        raise ExportError(f"the tokenizer's cleaning {found!r} is not covered", f"known: {', '.join(known)}")
    return known[found]


def _clip_json(tokenizer: Any) -> str:
    """Start and end of text around the words, cut to the context length keeping the end, padded with 0."""
    start, end = "<start_of_text>", "<end_of_text>"
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    fast = Tokenizer(BPE(vocab=dict(tokenizer.encoder), merges=merges, end_of_word_suffix="</w>"))
    # Cleaned text passes through this unchanged; it serves those who use the file alone.
    fast.normalizer = Sequence([Replace(Regex(r"\s+"), " "), Strip(), Lowercase()])
    fast.pre_tokenizer = PreTokenizers(
        [
            Split(Regex(_WORDS), behavior="removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ids = {token: int(tokenizer.encoder[token]) for token in (start, end)}
    fast.post_processor = TemplateProcessing(single=f"{start} $A {end}", special_tokens=list(ids.items()))
    fast.add_special_tokens([start, end])
    fast.enable_truncation(int(tokenizer.context_length))
    fast.enable_padding(length=int(tokenizer.context_length), pad_id=0, pad_token="!")
    return str(fast.to_str())


def _hugging_face_json(tokenizer: Any) -> str:
    """The tokenizer's own file, cutting and padding as open_clip asks at every call."""
    inner = tokenizer.tokenizer
    if not inner.is_fast:
        raise ExportError(f"the tokenizer {type(inner).__name__} has no tokenizer.json", "use a fast one")
    fast = Tokenizer.from_str(inner.backend_tokenizer.to_str())
    length = int(tokenizer.context_length)
    fast.enable_truncation(length, direction=inner.truncation_side)
    fast.enable_padding(
        length=length, direction=inner.padding_side, pad_id=inner.pad_token_id, pad_token=inner.pad_token
    )
    return str(fast.to_str())
