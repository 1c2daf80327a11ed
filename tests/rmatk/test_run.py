from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from rmatk.config import TrainConfig
from rmatk.run import RunRecord, load_run, restore
from rmatk.training.train import train
from rmatk_runtime.errors import RunError

CONFIG = TrainConfig(shots=2, epochs=2, rank=4, lr=0.01)


@pytest.fixture
def run(tiny, photos, tmp_path):
    return train(CONFIG, tiny, photos, tmp_path / "run")


def test_a_run_restores_to_the_model_it_came_from(run, tiny):
    model = restore(load_run(run.path), tiny)
    state = model.adapter_state()
    assert state.keys() == run.adapter.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(value, run.adapter[name])
    assert run.record.backbone_digest == tiny.digest
    assert run.record.class_names == ("blue dot", "green check", "red stripe")


def test_arrays_for_folding_give_the_adapters_output(run, tiny):
    model = restore(run, tiny)
    for name, tower, width in (("image", model.image, 48), ("text", model.text, 32)):
        arrays = model.adapter_arrays(name)
        assert list(arrays) == [1, 2]
        u = torch.randn(3, width)
        for index, adapter in tower.blocks.items():
            a = arrays[int(index)]
            hidden = torch.nn.functional.gelu(
                u @ torch.tensor(a["down_weight"]) + torch.tensor(a["down_bias"])
            )
            out = hidden @ torch.tensor(a["up_weight"]) + torch.tensor(a["up_bias"])
            torch.testing.assert_close(adapter.adapt(u), out)
            assert {key: value.shape for key, value in a.items()} == {
                "down_weight": (width, 4),
                "down_bias": (4,),
                "up_weight": (4, width),
                "up_bias": (width,),
                "rec1_weight": (4, 4),
                "rec1_bias": (4,),
                "rec2_weight": (4, width),
                "rec2_bias": (width,),
            }


def test_a_backbone_with_one_weight_changed_is_refused(run, tiny_clip):
    from rmatk.backbones.backbone import weights_digest

    other = tiny_clip()
    other.model.visual.proj.data[0, 0] += 1e-6
    other = dataclasses.replace(other, digest=weights_digest(other.model))
    with pytest.raises(RunError, match="wrong checkpoint for this run") as caught:
        restore(run, other)
    assert run.record.backbone_digest in caught.value.message
    assert other.digest in caught.value.message


@pytest.mark.parametrize("name", ["adapter.safetensors", "run.json"])
def test_a_missing_file_is_named(run, name):
    (run.path / name).unlink()
    with pytest.raises(RunError, match=f"found no {name}"):
        load_run(run.path)


def test_an_altered_adapter_is_refused(run):
    file = run.path / "adapter.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match="was altered"):
        load_run(run.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"shots": 2', '"shots": -2'),
        lambda text: text.replace('"logit_scale"', '"logit_skale"'),
    ],
    ids=["truncated", "newer", "impossible", "misspelt"],
)
def test_a_record_of_another_format_is_refused(run, change):
    file = run.path / "run.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(RunError, match=r"run\.json is not a run of this version"):
        load_run(run.path)


def test_weights_that_do_not_fit_are_refused(run, tiny):
    adapter = dict(run.adapter)
    adapter["image.blocks.1.up.weight"] = np.zeros((3, 3), np.float32)
    with pytest.raises(RunError, match=r"first image\.blocks\.1\.up\.weight"):
        restore(dataclasses.replace(run, adapter=adapter), tiny)


def test_the_record_holds_what_is_needed_to_repeat_the_run(run, photos):
    record = json.loads((run.path / "run.json").read_text())
    assert set(record) == set(RunRecord.__struct_fields__) - {"class_map"}  # as it is unless set
    assert record["data"] == str(photos.resolve())
    assert all((photos / file).is_file() for file in record["train_files"] + record["validation_files"])
    assert {"torch", "open_clip_torch", "python", "rmatk"} <= set(record["versions"])
    assert set(record["config"]) == set(TrainConfig.__struct_encode_fields__) - {"stretch"}  # likewise
