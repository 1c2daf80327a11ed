"""rmatk-small: within its size, its tokenizer as open_clip needs it, words near their kind, exact graphs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import onnxruntime
import pytest

from rmatk.backbones.small import MODEL as small

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model() -> Any:
    return small.load()


def vectors(model: Any, names: list[str]) -> np.ndarray:
    """Unit vectors (N, 256) of a prompt with each name."""
    with torch.no_grad():
        return model.encode_text(
            small.tokenize([f"a photo of a {n}." for n in names]), normalize=True
        ).numpy()


def test_importing_small_imports_no_torch() -> None:
    heavy = {"torch", "open_clip", "timm", "tokenizers"}
    code = f"import sys, rmatk.backbones.small; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_weights_keep_within_their_size_and_are_finite(model: Any) -> None:
    assert small.weights_path.stat().st_size <= 30_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_tokens_have_start_end_padding_and_the_end_is_largest() -> None:
    text = small.config()["text_cfg"]
    assert small.tokenizer.get_vocab_size() == text["vocab_size"]
    ids = small.tokenize(["a photo of a euphonium.", "", "word " * 200])
    assert ids.shape == (3, text["context_length"])
    assert (ids[:, 0] == 1).all() and (ids.max(dim=1).values == text["vocab_size"] - 1).all()
    assert ids[1].tolist()[2:] == [0] * (text["context_length"] - 2)
    assert ids[2, -1] == text["vocab_size"] - 1
    assert torch.equal(small.tokenize("A PHOTO of a Cup."), small.tokenize("a photo of a cup."))


@pytest.mark.parametrize(
    ("name", "near", "far"),
    [
        ("poodle", "dog", "truck"),
        ("ambulance", "car", "banana"),
        ("violin", "cello", "shark"),
        ("strawberry", "fruit", "hammer"),
        ("sailing boat", "ship", "chair"),
    ],
)
def test_words_lie_nearer_to_their_kind(model: Any, name: str, near: str, far: str) -> None:
    one, kind, other = vectors(model, [name, near, far])
    assert one @ kind > one @ other + 0.1


def test_pictures_differ_and_order_does_not_matter(model: Any) -> None:
    images = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images[1] = images[1].mean()
    images[2, :, 112:] = -1
    with torch.no_grad():
        first, turned = (model.encode_image(x, normalize=True) for x in (images, images.flip(0)))
    torch.testing.assert_close(first, turned.flip(0), atol=1e-5, rtol=0)
    assert (first @ first.T).fill_diagonal_(0).max() < 0.98


def test_graphs_give_what_pytorch_gives(model: Any) -> None:
    from rmatk_export.fold import fold
    from rmatk_export.graph.checks import checked
    from rmatk_export.graph.encoder import image_graph, text_graph
    from rmatk_export.readers.open_clip import read_image_tower, read_text_tower

    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    tokens = small.tokenize(["a photo of a cup.", "a satellite photo of a river"])
    with torch.no_grad():
        wanted = (
            model.encode_image(images, normalize=True).numpy(),
            model.encode_text(tokens, normalize=True).numpy(),
        )
    image, text = fold(read_image_tower(model)), fold(read_text_tower(model))
    graphs = (checked(image_graph(image), image), checked(text_graph(text), text))
    for graph, feed, expected in zip(graphs, ({"images": images}, {"tokens": tokens}), wanted, strict=True):
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {name: value.numpy() for name, value in feed.items()})
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_card_says_what_it_is_and_is_not_for() -> None:
    card = small.card_path.read_text(encoding="utf-8")
    assert "for trying out, tests and research, not for products" in card
    for source in ("EfficientNet-Lite0", "MiniLM", "WordNet", "Flickr8k", "Imagenette"):
        assert re.search(source, card)
