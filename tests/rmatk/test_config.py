from __future__ import annotations

import inspect
import math

import msgspec
import pytest

from rmatk.cli.train import train
from rmatk.config import Execution, ExportConfig, TrainConfig, default_blocks
from rmatk_runtime.errors import ConfigError


def test_all_mistakes_are_named_at_once_by_field():
    with pytest.raises(ConfigError, match="shots must be at least 1, not 0") as caught:
        TrainConfig(shots=0, lr=0.0, text_con_weight=math.nan, image_blocks=0, templates=("a photo",))
    fields = ["shots", "image_blocks", "text_con_weight", "lr", "templates"]
    assert [field for field, _ in caught.value.problems] == fields


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_needs_one_place_for_the_name(template):
    with pytest.raises(ConfigError, match=r"templates must contain \{\} once"):
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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precisions": ("fp32", "fp8")}, "precisions must be fp32, fp16 or int8, not fp8"),
        ({"precisions": ()}, "precisions must name at least one"),
        ({"golden": 0}, "golden must be at least 1, not 0"),
        ({"golden": "drawn"}, "golden must be rendered, not drawn"),
    ],
)
def test_settings_of_an_export_are_checked(wrong, message):
    with pytest.raises(ConfigError) as caught:
        ExportConfig(**wrong)
    assert str(caught.value) == message
    assert ExportConfig(golden=None).golden is None and ExportConfig(golden="rendered").precisions == (
        "fp32",
    )
