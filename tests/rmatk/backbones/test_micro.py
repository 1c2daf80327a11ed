"""rmatk-micro: within its size, its tokenizer as open_clip needs it, and really pretrained."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from rmatk.backbones.micro import MODEL as micro
from rmatk.scenes import prompt, render
from rmatk.scenes.draw import compose
from rmatk.scenes.split import SEEN_KINDS, held_out_combinations

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model() -> Any:
    return micro.load()


def test_importing_micro_imports_no_torch() -> None:
    heavy = {"torch", "open_clip", "tokenizers"}
    code = f"import sys, rmatk.backbones.micro; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_size_and_shape_are_as_promised(model: Any) -> None:
    cfg = micro.config()
    assert cfg["vision_cfg"]["layers"] >= 6
    assert cfg["text_cfg"]["layers"] >= 4
    assert sum(p.numel() for p in model.parameters()) <= 5_000_000
    assert micro.weights_path.stat().st_size <= 10_000_000


def test_weights_are_float16_on_disk_and_float32_in_memory(model: Any) -> None:
    from safetensors import safe_open

    with safe_open(micro.weights_path, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_forward_shapes_and_determinism(model: Any) -> None:
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, again = (model.encode_image(images, normalize=True) for _ in range(2))
        text = model.encode_text(micro.tokenize(["a photo of a gear."]), normalize=True)
    assert first.shape == (2, micro.config()["embed_dim"]) and text.shape == (1, micro.config()["embed_dim"])
    torch.testing.assert_close(first, again)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(2))


def test_tokens_have_start_end_padding_and_the_end_is_largest() -> None:
    tokenizer = micro.tokenizer
    size = tokenizer.get_vocab_size()
    assert size <= 2048 and size == micro.config()["text_cfg"]["vocab_size"]
    ids = micro.tokenize(["a photo of a gear.", ""])
    assert ids.shape == (2, micro.config()["text_cfg"]["context_length"]) and ids.dtype == torch.int64
    assert (ids[:, 0] == 1).all()
    assert (ids.max(dim=1).values == size - 1).all()
    assert ids[1].tolist() == [1, size - 1] + [0] * (ids.shape[1] - 2)
    end = ids[0].argmax()
    assert (ids[0, end + 1 :] == 0).all()


def test_one_text_is_a_batch_of_one() -> None:
    assert micro.tokenize("a gear").shape[0] == 1


def test_too_long_a_text_keeps_its_end() -> None:
    ids = micro.tokenize("gear " * 200)
    assert ids[0, -1] == micro.tokenizer.get_vocab_size() - 1


def test_case_does_not_matter_and_any_text_survives() -> None:
    assert torch.equal(micro.tokenize("A Photo of a GEAR."), micro.tokenize("a photo of a gear."))
    text = "grün 歯車 🙂"
    assert micro.tokenizer.decode(micro.tokenizer.encode(text).ids).strip() == text


def test_positions_after_the_end_do_not_matter(model: Any) -> None:
    """Causal text tower: what the toolkit's cut of the context relies on."""
    ids = micro.tokenize("a photo of a gear.")
    other = ids.clone()
    other[0, ids[0].argmax() + 1 :] = 7
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(ids), model.encode_text(other))


def _pictures(combos: list[tuple[str, str, str]], seed: int) -> Any:
    """(N, 3, 96, 96) float32, normalised as the config says."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([render(compose(rng, combo), 96) for combo in combos]).astype(np.float32) / 255
    cfg = micro.config()["preprocess_cfg"]
    x = (pixels - np.array(cfg["mean"], np.float32)) / np.array(cfg["std"], np.float32)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32))


def _top1(model: Any, combos: list[tuple[str, str, str]], prompts: list[str], labels: list[int]) -> float:
    with torch.no_grad():
        images = model.encode_image(_pictures(combos, 11), normalize=True)
        texts = model.encode_text(micro.tokenize(prompts), normalize=True)
    return float(((images @ texts.T).argmax(1) == torch.tensor(labels)).float().mean())


# The bounds below lie some standard errors under what the model card states: they catch broken weights,
# tokens or preprocessing. They are not the card's targets.
def test_zero_shot_on_held_out_combinations(model: Any) -> None:
    combos = held_out_combinations()[:60]
    labels = [i for i in range(60) for _ in range(4)]
    assert _top1(model, [combos[i] for i in labels], [prompt(*c) for c in combos], labels) > 0.78


def test_zero_shot_of_the_kind_alone(model: Any) -> None:
    combos = held_out_combinations()[60:300]
    labels = [SEEN_KINDS.index(c[0]) for c in combos]
    assert _top1(model, combos, [prompt(kind) for kind in SEEN_KINDS], labels) > 0.38


def test_an_untrained_network_knows_nothing() -> None:
    """The two tests above measure the weights, not the test's own layout."""
    torch.manual_seed(0)
    combos = held_out_combinations()[:60]
    assert _top1(micro.build().eval(), combos, [prompt(*c) for c in combos], list(range(60))) < 0.2


def test_model_card_states_results_and_limits() -> None:
    card = micro.card_path.read_text(encoding="utf-8")
    for word in ("Data", "Steps", "Limits", "held-out", "kind alone"):
        assert word in card, word
    assert len(re.findall(r"\d+\.\d ?%", card)) >= 2
