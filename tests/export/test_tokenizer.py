"""The exported tokenizer, fed with cleaned text, gives open_clip's ids, without open_clip."""

from __future__ import annotations

import html
import random
import unicodedata
from html.entities import html5

import numpy as np
import pytest
from tokenizers import Tokenizer

from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk_export.tokenizer import export_tokenizer
from rmatk_runtime.bundle.text_cleaning import clean
from rmatk_runtime.errors import ExportError


@pytest.fixture(scope="module")
def open_clip():
    import_torchvision()
    import open_clip

    return open_clip


@pytest.fixture(scope="module")
def clip(open_clip):
    return open_clip.get_tokenizer("ViT-B-16")


TEXTS = [
    "a photo of a coffee mug.",
    "Don't SHOUT, it's 42 they'll   say\t\n",
    "naïve café, İstanbul, straße, ΟΔΟΣ, e\u0301",
    "日本語 テスト ١٢٣ ½ 😀👍🏽 👩‍👩‍👧‍👦 🇩🇪",
    "mother-in-law & co!!!  a/b_c",
    "R&amp;D &amp;amp;#233; &lt;b&gt; e&amp;#769; <p>caf&eacute;</p> &notit; &#x1F600;",
    "schÃ¶n â€œquotedâ€\u009d l\u2019Ã©tÃ© \ufeffx\u00adx",
    "x\u0000y\u001bz\u001c1\u0085 \u2003\u3000\u200b\u2028.",
    "it'ſ we'RE \u212aelvin",
    "<start_of_text> in <END_OF_TEXT> text",
    "word " * 100,
    "x" * 300,
    "",
    " \t ",
]

BLOCKS = [
    *[(0x20, 0x7E)] * 3, (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF),
    (0x600, 0x6FF), (0x900, 0x97F), (0xB80, 0xBFF), (0xE00, 0xE7F), (0x10A0, 0x10FF), (0x1200, 0x137F),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x23FF), (0x2460, 0x27BF), (0x3000, 0x30FF),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFB4F), (0xFE00, 0xFEFF), (0xFF00, 0xFFEF),
    (0x1D400, 0x1D7FF), (0x0, 0x1F), (0x7F, 0x9F),
]  # fmt: skip
WORDS = "a photo of the Don't WE'RE I'LL it's they'd you've coffee-mug co. straße İstanbul O'Neil rock'n'roll"
SPACES = " \t\n\r\v\f\u0085\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u200b\ufeff\x1c\x1f"


def varied_text(rng: random.Random) -> str:
    """Pieces of every kind that a label could hold, and of many that none should."""

    def signs() -> str:
        low, high = rng.choice(BLOCKS)
        drawn = (chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))
        # Libraries know different versions of Unicode: only what has been a character for long.
        return "".join(sign for sign in drawn if unicodedata.ucd_3_2_0.category(sign) != "Cn")

    def entity() -> str:
        number = ord((signs() or "?")[0])
        found = rng.choice([f"&{rng.choice(NAMES)}", f"&#{number};", f"&#x{number:X};", "&amp;#769;"])
        for _ in range(rng.randint(0, 2)):
            found = html.escape(found)
        return found

    def broken() -> str:
        return (
            rng.choice(["schön", "“quoted”", "l’été", "naïve café", "中文", "→ ½"]).encode().decode("latin-1")
        )

    kinds = [
        *[lambda: rng.choice(WORDS.split())] * 4,
        *[signs] * 4,
        *[entity] * 2,
        broken,
        lambda: str(rng.randint(0, 10**6)),
        lambda: rng.choice("!?.,;:-_/\\'\"()[]{}<>#$%^&*~|") * rng.randint(1, 5),
        lambda: "e" + "".join(chr(rng.randint(0x300, 0x36F)) for _ in range(rng.randint(1, 3))),
        lambda: rng.choice("👍👩🧑🐕🥑⚙🚲") + rng.choice(["🏽", "\u200d🚀", "\ufe0f", ""]),
    ]
    pieces = [rng.choice(kinds)() for _ in range(rng.choice([1, 2, 4, 8, 60]))]
    return "".join(piece + rng.choice(["", " ", rng.choice(SPACES)]) for piece in pieces)


NAMES = sorted(html5)


def differing(tokenizer, texts: list[str]) -> list[str]:
    exported = export_tokenizer(tokenizer)
    fast = Tokenizer.from_str(exported.json)
    found = fast.encode_batch([clean(text, exported.cleaning) for text in texts])
    ids = tokenizer(texts).numpy()
    return [text for text, a, b in zip(texts, ids, found, strict=True) if not np.array_equal(a, b.ids)]


def test_clips_ids_on_chosen_texts(clip):
    assert export_tokenizer(clip).cleaning == "lower"
    assert differing(clip, TEXTS) == []


@pytest.mark.slow
def test_clips_ids_on_ten_thousand_varied_texts(clip):
    rng = random.Random(0)
    texts = [varied_text(rng) for _ in range(10_000)]
    assert sum(len(clip.encode(text)) > 75 for text in texts[:500]) > 50  # many are over-long
    assert differing(clip, texts) == []


def test_cleaning_is_open_clips(open_clip):
    from open_clip.tokenizer import get_clean_fn

    rng = random.Random(1)
    texts = [*TEXTS, "Snake_case, (bits) & 'bobs'!", *(varied_text(rng) for _ in range(500))]
    for name in ("whitespace", "lower", "canonicalize"):
        theirs = get_clean_fn(name)
        assert [clean(text, name) for text in texts] == [theirs(text) for text in texts]
    assert clean(" As  IT_is ", "none") == " As  IT_is "


def test_other_tokenizers_are_refused(open_clip):
    with pytest.raises(ExportError, match="the tokenizer int is not covered"):
        export_tokenizer(3)
    random_cuts = open_clip.get_tokenizer("ViT-B-16")
    random_cuts.reduction_fn = print
    with pytest.raises(ExportError, match="SimpleTokenizer is not covered"):
        export_tokenizer(random_cuts)
    other_cleaning = open_clip.get_tokenizer("ViT-B-16")
    other_cleaning.clean_fn = print
    with pytest.raises(ExportError, match="cleaning 'print' is not covered"):
        export_tokenizer(other_cleaning)
