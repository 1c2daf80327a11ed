from __future__ import annotations

import inspect
import math

import msgspec
import pytest

from rmatk.cli.train import train
from rmatk.config import Execution, TrainConfig, default_blocks


def test_all_mistakes_are_told_at_once_by_flag():
    with pytest.raises(ValueError, match="--shots must be at least 1, not 0") as caught:
        TrainConfig(shots=0, lr=0.0, text_con_weight=math.nan, image_blocks=0, templates=("a photo",))
    for flag in ("--lr", "--text-con-weight", "--image-blocks", "--template"):
        assert flag in str(caught.value)


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_needs_one_place_for_the_name(template):
    with pytest.raises(ValueError, match=r"--template must contain \{\} once"):
        TrainConfig(templates=(template,))


def test_it_survives_json():
    config = TrainConfig(model="ViT-B-16", pretrained="openai", lr=0.5, optimizer="sgd", text_blocks=3)
    assert msgspec.json.decode(msgspec.json.encode(config), type=TrainConfig) == config


@pytest.mark.parametrize(("depth", "adapted"), [(12, 8), (6, 4), (4, 3), (24, 16), (1, 1)])
def test_two_thirds_of_the_blocks_are_adapted(depth, adapted):
    assert default_blocks(depth) == adapted


def test_the_command_line_has_the_defaults_of_the_settings():
    options = inspect.signature(train).parameters
    for kind in (TrainConfig, Execution):
        for field in msgspec.structs.fields(kind):
            if field.name not in ("templates", "model"):  # chosen from the data and from what is at hand
                assert options[field.name].default == field.default, field.name
