"""The vectors that names, phrases and captions should get: what the text tower is distilled from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from image import features
from lexicon import Lexicon, PhraseTeacher, lexicon, phrases
from safetensors.torch import load_file, save_file
from targets import KernelRidge, Tree, inputs, joint_basis, texts_of
from teachers import TextTeacher
from text import TextPairs
from torch import Tensor
from wordnet import WordNet, imagenet_synset

PHRASES, CAPTIONS_EACH = 25_000, 3
CAPTION_SHARE = 0.4  # of what the phrase teacher is fitted on
FILE, TEXTS = "meanings.safetensors", "meanings.json"


def imagenet_classes(wordnet: WordNet, paths: Sequence[str]) -> list[tuple[int, str]]:
    """(synset, name) of ImageNet's 1,000 classes, from paths such as ``n01440764_tench.JPEG``."""
    split = (Path(path).stem.split("_", 1) for path in paths)
    names = [(number, name.replace("_", " ")) for number, name in split]
    return [(imagenet_synset(wordnet, number, name), name) for number, name in names]


def encoded(teacher: TextTeacher, wordnet: WordNet, named: Sequence[tuple[int, str | None]]) -> Tensor:
    """MiniLM's vectors (N, 3, 384) of the texts that describe synsets; equal texts run once."""
    texts = [text for offset, name in named for text in texts_of(wordnet, offset, name)]
    unique = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return teacher.encode(list(unique))[[unique[text] for text in texts]].view(len(named), 3, -1)


def names(wordnet: WordNet, teacher: TextTeacher, image_teacher: Any, paths: Sequence[str]) -> Lexicon:
    """Every name of a visible thing with its vector: ImageNet's own rows, and what the regression says."""
    classes = imagenet_classes(wordnet, paths)
    rows = image_teacher.classifier.weight.detach()
    vectors = F.normalize((rows - rows.mean(0)) @ joint_basis(rows), dim=1)
    offsets = [offset for offset, _ in classes]
    tree = Tree.of(wordnet, offsets)
    known = inputs(encoded(teacher, wordnet, classes), tree.features(wordnet, offsets))
    regression, visible = KernelRidge(known, vectors), wordnet.visible()
    asked = inputs(
        encoded(teacher, wordnet, [(offset, None) for offset in visible]), tree.features(wordnet, visible)
    )
    meant = dict(zip(visible, F.normalize(regression(asked), dim=1), strict=True))
    meant |= dict(zip(offsets, vectors, strict=True))
    return lexicon(wordnet, meant, set(offsets))


@torch.inference_mode()
def joint_features(image_teacher: Any, maps: Tensor, mean: Tensor) -> Tensor:
    """Stem maps (N, 49, 320) -> the teacher's pooled features in the joint space (N, 256), unit length."""
    pooled = torch.cat([features(image_teacher, part).mean(1) for part in maps.split(256)])
    return F.normalize((pooled - mean) @ joint_basis(image_teacher.classifier.weight), dim=1)


def make(
    out: Path,
    wordnet: WordNet,
    image_teacher: Any,
    paths: Sequence[str],
    captions: list[list[str]],
    photos: Tensor,
    seed: int,
) -> None:
    """Write names, phrases and captions with their vectors into ``out``.

    Args:
        paths: of the ImageNet samples, sorted: one a class.
        captions: of each photo of Flickr8k.
        photos: their features in the joint space (N, 256).
    """
    teacher = TextTeacher()
    lexicon_ = names(wordnet, teacher, image_teacher, paths)
    drawn = phrases(lexicon_, PHRASES, np.random.default_rng(seed))
    told = [(photo, text) for photo, texts in enumerate(captions) for text in texts[:CAPTIONS_EACH]]
    seen = photos[[photo for photo, _ in told]]
    of_names = teacher.encode([f"a photo of a {name}." for name in lexicon_.names])
    of_captions = teacher.encode([text for _, text in told])
    phrase_teacher = PhraseTeacher()
    share = torch.full((len(told),), CAPTION_SHARE / len(told))
    weights = lexicon_.weights.float() / lexicon_.weights.sum()
    phrase_teacher.fit(
        torch.cat([of_names, of_captions]),
        torch.cat([lexicon_.vectors, seen]),
        torch.cat([weights, share]),
    )
    with torch.inference_mode():
        caption_vectors = F.normalize(phrase_teacher(of_captions) + 0.5 * seen, dim=1)
        phrase_vectors = torch.cat([caption_vectors, phrase_teacher(teacher.encode(drawn))])
    save_file(
        {
            "names": lexicon_.vectors,
            "weights": weights,
            "phrases": phrase_vectors,
            **{f"teacher.{name}": value for name, value in phrase_teacher.state_dict().items()},
        },
        out / FILE,
    )
    texts = {"names": lexicon_.names, "phrases": [text for _, text in told] + drawn}
    (out / TEXTS).write_text(json.dumps(texts))


def load(out: Path) -> TextPairs:
    """What :func:`make` wrote."""
    tensors, texts = load_file(out / FILE), json.loads((out / TEXTS).read_text())
    weights = tensors["weights"].double().numpy()
    return TextPairs(
        texts["names"], tensors["names"], weights / weights.sum(), texts["phrases"], tensors["phrases"]
    )


def token_vectors(out: Path, tokens: Sequence[str]) -> Tensor:
    """What the phrase teacher says of each entry of a vocabulary (V, 256): where its embedding starts."""
    phrase_teacher = PhraseTeacher()
    tensors = load_file(out / FILE)
    phrase_teacher.load_state_dict(
        {name.removeprefix("teacher."): v for name, v in tensors.items() if name.startswith("teacher.")}
    )
    phrase_teacher.eval()
    with torch.inference_mode():
        return phrase_teacher(TextTeacher().encode([token.strip() or "." for token in tokens]))
