"""SigLIP's tokenizers, which open_clip takes from transformers: the same ids, the same embeddings.

No vocabulary can be downloaded in tests, so small ones are trained here, of the kinds that SigLIP (T5's
sentencepiece unigrams) and SigLIP 2 (Gemma's byte-pair encoding) use.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.config import TrainConfig
from rmatk.deployment.from_run import export_source
from rmatk.run import restore
from rmatk.training.train import train
from rmatk_export.bundle_writer import write_bundle
from rmatk_export.tokenizer import export_tokenizer
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.text_cleaning import clean
from rmatk_runtime.errors import ExportError
from rmatk_runtime.labels.text_encoder import class_embeddings

transformers = pytest.importorskip("transformers", reason="the extra siglip is not installed")

CONTEXT = 16
WORDS = ["a", "photo", "of", "the", "red", "dot", "stripe", "coffee", "mug", "café", "naïve", "straße"]
TEXTS = [
    "a photo of a Coffee_Mug.",
    "Don't SHOUT!! it's (42)",
    "caf&eacute; &amp;amp; schÃ¶n 日本 😀",
    "",
    "word " * 100,
    "</s> <pad> <unk> a",
]


def trained_unigrams() -> Tokenizer:
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(_sentences(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def trained_pairs() -> Tokenizer:
    tokenizer = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        _sentences(), BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return tokenizer


def _sentences() -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=6)) for _ in range(300)]


KINDS = {
    "siglip": (trained_unigrams, {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "siglip2": (trained_pairs, {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}),
}


def wrapped(kind: str, folder: Path, **options: Any) -> Any:
    """open_clip's wrapper around a tokenizer in ``folder``, as it opens one from the hub."""
    import_torchvision()
    from open_clip.tokenizer import HFTokenizer

    make, tokens = KINDS[kind]
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=make(), padding_side="right", **tokens)
    fast.save_pretrained(folder)
    return HFTokenizer(str(folder), **{"context_length": CONTEXT, "clean": "canonicalize", **options})


@pytest.mark.parametrize("cleaning", ["canonicalize", "whitespace", "lower"])
@pytest.mark.parametrize("kind", KINDS)
def test_same_ids(kind: str, cleaning: str, tmp_path: Path):
    tokenizer = wrapped(kind, tmp_path, clean=cleaning)
    exported = export_tokenizer(tokenizer)
    assert exported.cleaning == cleaning
    fast = Tokenizer.from_str(exported.json)
    found = [fast.encode(clean(text, exported.cleaning)).ids for text in TEXTS]
    np.testing.assert_array_equal(found, tokenizer(TEXTS))
    assert all(len(ids) == CONTEXT for ids in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_embeds_labels_as_pytorch_does(kind: str, tmp_path: Path, tiny_clip, draw_photos):
    text = {"pool_type": "last", "no_causal_mask": True, "vocab_size": 512, "context_length": CONTEXT}
    backbone = dataclasses.replace(
        tiny_clip(custom_text=True, **text), tokenize=wrapped(kind, tmp_path / "own"), tokenizer_json=None
    )
    data = draw_photos(tmp_path / "photos", {"red_stripe": 4, "blue_dot": 4})
    config = TrainConfig(model=backbone.name, shots=2, epochs=1, lr=0.02, rank=4)
    run = train(config, backbone, data, tmp_path / "run")
    write_bundle(export_source(run, backbone), tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.manifest.text.cleaning == "canonicalize"
    names = ("Coffee_Mug!", "café naïve", "straße " * 30)
    expected = restore(run, backbone).class_embeddings(names, ("a photo of a {}.", "{}"))
    np.testing.assert_allclose(
        class_embeddings(bundle, names, ("a photo of a {}.", "{}")), expected, atol=1e-5
    )


def test_wrappers_that_alter_ids_are_refused(tmp_path: Path):
    with pytest.raises(ExportError, match="HFTokenizer is not covered"):
        export_tokenizer(wrapped("siglip", tmp_path, strip_sep_token=True))
