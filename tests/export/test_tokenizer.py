"""The exported tokenizer gives open_clip's ids, without open_clip."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from rmatk.torchvision_ops import import_torchvision
from rmatk_export.tokenizer import clip_tokenizer_json
from rmatk_runtime.errors import ExportError


@pytest.fixture(scope="module")
def clip():
    import_torchvision()
    import open_clip

    return open_clip.get_tokenizer("ViT-B-16")


TEXTS = [
    "a photo of a coffee mug.",
    "Don't SHOUT, it's 42 they'll   say\t\n",
    "naïve café, İstanbul, straße, e\u0301",
    "日本語 テスト ١٢٣ ½ 😀👍🏽",
    "mother-in-law & co!!!  a/b_c",
    "word " * 100,
    "x" * 300,
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_same_ids(clip, text: str):
    tokenizer = Tokenizer.from_str(clip_tokenizer_json(clip))
    assert tokenizer.encode(text).ids == clip([text])[0].tolist()


def test_other_tokenizers_are_refused():
    with pytest.raises(ExportError, match="the tokenizer int is not covered"):
        clip_tokenizer_json(3)
