"""Train rmatk-micro's tokenizer on captions of random scenes and write rmatk/backbones/micro/tokenizer.json.

    python tools/train_micro_tokenizer.py

Byte-level BPE of at most 2048 entries. The end token gets the largest id of all, because open_clip's text
tower finds the end of a text by ``argmax`` over the ids; padding is 0. config.json's vocabulary size has to
equal the number printed.
"""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from rmatk.backbones.micro import MODEL as micro
from rmatk.scenes import caption, draw_scene

LARGEST_VOCABULARY = 2048
PAD, START, END = "<|pad|>", "<|startoftext|>", "<|endoftext|>"


def train(captions: list[str], context_length: int, largest: int = LARGEST_VOCABULARY) -> Tokenizer:
    """A tokenizer of at most ``largest`` entries with merges learnt from ``captions``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=largest - 1,
        special_tokens=[PAD, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    # added last, so that its id is the largest
    tokenizer.add_special_tokens([END])
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
    )
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token=PAD)
    return tokenizer


def main() -> None:
    """Train, write, print the vocabulary's size."""
    rng = np.random.default_rng(2048)
    captions = [caption(draw_scene(rng), rng) for _ in range(40_000)]
    tokenizer = train(captions, micro.config()["text_cfg"]["context_length"])
    tokenizer.save(str(micro.tokenizer_path))
    lengths = [sum(e.attention_mask) for e in tokenizer.encode_batch(captions[:4000])]
    size = tokenizer.get_vocab_size()
    print(f"{size} entries; {np.mean(lengths):.1f} tokens per caption, at most {max(lengths)}")


if __name__ == "__main__":
    main()
