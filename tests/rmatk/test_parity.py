"""Every stage against the trained model, and the first bad one named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rmatk.data import read_folder
from rmatk.parity import check_against_run
from rmatk_runtime.backends import Backend, open_backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import RunError
from rmatk_runtime.preprocess import Float32


class Turned(Backend):
    """An engine that mixes neighbouring embeddings a little."""

    name = "turned"

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def embed(self, images: Float32) -> Float32:
        found = self.inner.embed(images)
        mixed = found + np.float32(0.1) * np.roll(found, 1, axis=1)
        return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def test_a_sound_bundle_agrees_at_every_stage(tiny_bundle: Path, tiny_run, tiny):
    bundle, photos = Bundle.open(tiny_bundle), read_folder(Path(tiny_run.record.data))
    seen: list[int] = []
    with open_backend(bundle, "cpu") as engine:
        stages = check_against_run(
            bundle, [("fp32", engine)], tiny_run, tiny, photos, batch=7, on_images=seen.append
        )
    assert [stage.stage for stage in stages] == ["class matrix", "torch folded", "onnxruntime cpu fp32"]
    assert all(stages) and sum(seen) == 24
    for stage in stages:
        assert stage.agreement == 1.0 and stage.max_embedding_difference < 1e-5
    assert stages[2].accuracy == stages[2].reference_accuracy


def test_a_wrong_engine_fails_at_its_own_stage(tiny_bundle: Path, tiny_run, tiny):
    bundle, photos = Bundle.open(tiny_bundle), read_folder(Path(tiny_run.record.data))
    with open_backend(bundle, "cpu") as engine:
        stages = check_against_run(bundle, [("fp32", Turned(engine))], tiny_run, tiny, photos)
    assert [bool(stage) for stage in stages] == [True, True, False]
    assert "cosine" in (stages[2].reason or "")


def test_a_bundle_of_another_run_is_refused(tiny_bundle: Path, tiny_run, tiny, tmp_path: Path):
    from rmatk.config import TrainConfig
    from rmatk.train import train

    config = TrainConfig(model=tiny.name, shots=2, epochs=1, rank=4)
    other = train(config, tiny, Path(tiny_run.record.data), tmp_path / "other")
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(RunError, match="exported from another run"):
        check_against_run(bundle, [], other, tiny, read_folder(Path(tiny_run.record.data)))
