"""open_clip's byte-pair tokenizer as a Hugging Face ``tokenizer.json``, which needs no torch to be used.

The file is made from the very vocabulary and merges that open_clip holds in memory. The one step it cannot
express is open_clip's repair of broken text (``ftfy``) and HTML entities, which class names do not need; the
exporter checks that every prompt of the bundle gives the same ids.
"""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Lowercase, Replace, Sequence, Strip
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import TemplateProcessing

from rmatk_runtime.errors import ExportError

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def clip_tokenizer_json(tokenizer: Any) -> str:
    """The JSON of an open_clip ``SimpleTokenizer`` (byte-pair encoding, lower case).

    It adds start and end of text, cuts to the context length keeping the end, and pads with 0.

    Raises:
        ExportError: a tokenizer of another kind.
    """
    if type(tokenizer).__name__ != "SimpleTokenizer" or tokenizer.reduction_fn is not None:
        raise ExportError(f"the tokenizer {type(tokenizer).__name__} is not covered", "only CLIP's own BPE")
    start, end = "<start_of_text>", "<end_of_text>"
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    fast = Tokenizer(BPE(vocab=dict(tokenizer.encoder), merges=merges, end_of_word_suffix="</w>"))
    fast.normalizer = Sequence([NFC(), Replace(Regex(r"\s+"), " "), Strip(), Lowercase()])
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
