from __future__ import annotations

import msgspec
import pytest
import torch

from rmatk.config import TrainConfig
from rmatk.training.precision import autocast, resolved
from rmatk.training.train import train
from rmatk_runtime.errors import BackboneError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_computes_in_16_bits_only_where_it_has_amx(monkeypatch, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert resolved("auto", CPU) == expected
    assert resolved("fp32", CPU) == "fp32" and resolved("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_bf16_of_its_own_takes_fp16(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert resolved("auto", CUDA) == expected


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(BackboneError, match="--precision fp16 needs a GPU"):
        resolved("fp16", CPU)


def test_only_products_are_in_16_bits():
    a = torch.randn(8, 8)
    with autocast("bf16", CPU):
        assert (a @ a).dtype == torch.bfloat16
        assert torch.nn.functional.cross_entropy(a @ a, torch.arange(8)).dtype == torch.float32
    with autocast("fp32", CPU):
        assert (a @ a).dtype == torch.float32


def test_training_in_bf16_is_near_fp32_and_recorded(tiny, photos, tmp_path):
    config = TrainConfig(shots=4, epochs=2, batch=5, lr=0.01, rank=4, precision="fp32")
    losses = {}
    for precision in ("fp32", "bf16"):
        chosen = msgspec.structs.replace(config, precision=precision)
        run = train(chosen, tiny, photos, tmp_path / precision)
        assert run.record.config.precision == precision
        lines = (run.path / "metrics.jsonl").read_bytes().splitlines()
        losses[precision] = [msgspec.json.decode(line)["loss"] for line in lines]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
