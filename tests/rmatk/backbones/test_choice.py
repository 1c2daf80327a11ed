from __future__ import annotations

import pytest
import torch

from rmatk.backbones import backbone, choice
from rmatk_runtime.errors import BackboneError


@pytest.fixture
def loaded(monkeypatch):
    """What was asked for, in place of a backbone."""
    monkeypatch.setattr(backbone, "load_backbone", lambda *asked: asked)


def test_a_named_backbone_is_taken_without_a_word(loaded):
    assert choice.load_chosen("rmatk-small", None, "cpu") == (("rmatk-small", None, "cpu"), ())


def test_the_default_is_made_for_photographs_where_its_weights_can_be_had(loaded, monkeypatch):
    monkeypatch.setattr(choice, "weights_at_hand", lambda: True)
    chosen, notes = choice.load_chosen("auto", None, "cpu")
    assert chosen == ("ViT-B-16-quickgelu", "openai", "cpu") and "--model is not given" in notes[0]


def test_the_default_without_its_weights_says_what_is_used_in_its_place(loaded, monkeypatch):
    monkeypatch.setattr(choice, "weights_at_hand", lambda: False)
    chosen, notes = choice.load_chosen("auto", None, "cpu")
    assert chosen == ("rmatk-small", None, "cpu")
    assert "neither cached nor within reach: rmatk-small is used" in notes[0] and "trying out" in notes[0]


def test_weights_are_not_at_hand_offline_and_without_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not choice.weights_at_hand()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert not choice.weights_at_hand()


def test_auto_is_a_gpu_where_torch_has_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choice.chosen_device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (choice.chosen_device("auto"), choice.chosen_device("cuda:1")) == ("cpu", "cuda:1")
    assert choice.device_note(torch.device("cpu")).startswith("device: cpu, ")


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = torch.nn.Linear(3, 2).half()
        self.register_buffer("context_length", torch.tensor(77))

    def forward(self, x):
        return self.visual(x)


@pytest.mark.parametrize("kind", ["TorchScript archive", "holds Python objects besides weights"])
def test_files_with_more_than_weights_are_refused_with_what_converts_them(tmp_path, kind):
    import shlex
    import subprocess
    import sys

    from safetensors.torch import load_file

    path = tmp_path / "it's ViT-B-16.pt"
    if kind == "TorchScript archive":
        torch.jit.save(torch.jit.script(Small()), path)
    else:
        torch.save(Small(), path)
    with pytest.raises(BackboneError, match=kind) as caught:
        backbone.load_backbone("ViT-B-32", str(path))
    assert "weights_only" not in caught.value.message
    hint = str(caught.value.hint)
    assert ("--model ViT-B-32-quickgelu" in hint) == (kind == "TorchScript archive")
    typed = hint.removeprefix("if you trust it, convert it once: ").partition("; then --pretrained")[0]
    if kind == "TorchScript archive":  # the other needs the class, which is this test's
        subprocess.run([sys.executable, *shlex.split(typed)[1:]], check=True, capture_output=True)
        state = load_file(path.with_suffix(".safetensors"))
        assert (
            list(state) == ["visual.bias", "visual.weight"] and state["visual.weight"].dtype == torch.float32
        )
