"""Every stage against the trained model, and the first bad one named."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rmatk.data.photos import read_folder
from rmatk.parity.run_reference import RunReference
from rmatk_export.bundle_writer import write_bundle
from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import DataError, RunError
from rmatk_runtime.labels.editor import add_label, rename_label
from rmatk_runtime.parity.compare import Judge
from rmatk_runtime.parity.stage import StageResult
from rmatk_runtime.parity.walk import EncoderCandidate, check
from rmatk_runtime.selection import open_candidates


def check_against_run(bundle, candidates, run, backbone, photos, **options) -> list[StageResult]:
    reference = RunReference(bundle, run, backbone, photos)
    return check(reference, [reference.folded(), *candidates], Judge.of(bundle), **options)


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
    with open_candidates(bundle, "cpu") as engines:
        stages = check_against_run(
            bundle, engines, tiny_run, tiny, photos, batch=7, on_progress=lambda *now: seen.append(now[1])
        )
    names = ["preprocessing", "class matrix", "torch folded", "onnxruntime cpu fp32"]
    assert [stage.stage for stage in stages] == names
    assert all(stages) and seen == [7, 14, 21, 24]
    for stage in stages[1:]:
        assert stage.agreement == 1.0 and stage.max_embedding_difference < 1e-5
    assert stages[3].accuracy == stages[3].reference_accuracy
    assert stages[3].accuracy_difference == stages[2].accuracy_difference
    assert stages[3].accuracy_difference.lost == stages[3].accuracy_difference.gained == 0


def test_graphs_on_pixels_are_checked_on_the_same_photos(tiny_source, tiny_run, tiny, tmp_path: Path):
    write_bundle(dataclasses.replace(tiny_source, pixels=True), tmp_path / "bundle")
    bundle, photos = Bundle.open(tmp_path / "bundle"), read_folder(Path(tiny_run.record.data))
    with open_candidates(bundle, "cpu") as engines:
        stages = check_against_run(bundle, engines, tiny_run, tiny, photos, batch=7)
    *_, images, pixels = stages
    assert (images.stage, pixels.stage) == ("onnxruntime cpu fp32", "onnxruntime cpu fp32 on pixels")
    assert pixels and pixels.images == 24 and pixels.max_embedding_difference < 1e-5


def test_all_photos_that_cannot_be_read_are_named(tiny_bundle: Path, tiny_run, tiny, tmp_path: Path):
    root = Path(shutil.copytree(tiny_run.record.data, tmp_path / "photos"))
    photos = read_folder(root)
    broken = [files[0] for files in photos.files]
    for file in broken:
        file.write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        check_against_run(Bundle.open(tiny_bundle), [], tiny_run, tiny, photos)
    assert all(str(file) in caught.value.message for file in broken)


def test_another_preprocessing_is_named_before_anything_is_computed_from_it(
    tiny_bundle: Path, tiny_run, tiny
):
    bundle, photos = Bundle.open(tiny_bundle), read_folder(Path(tiny_run.record.data))
    for change in ({"std": (0.25, 0.25, 0.26)}, {"height": 40}):
        spec = msgspec.structs.replace(bundle.manifest.preprocess, **change)
        changed = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, preprocess=spec))
        (stage,) = check_against_run(changed, [], tiny_run, tiny, photos)
        assert not stage and stage.stage == "preprocessing" and next(iter(change)) in (stage.reason or "")


def test_labels_changed_on_the_device_are_compared_on_their_own_prompts(
    tiny_bundle: Path, tiny_run, tiny, tmp_path: Path
):
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    add_label(path, "blue stripe", ["a red {}."])
    rename_label(path, "blue dot", "cherry")
    photos = read_folder(Path(tiny_run.record.data))
    stages = check_against_run(Bundle.open(path), [], tiny_run, tiny, photos)
    assert all(stages) and stages[1].stage == "class matrix" and stages[1].images == 4
    assert stages[1].max_embedding_difference < 1e-5 and stages[2].accuracy is None


def test_a_wrong_engine_fails_at_its_own_stage(tiny_bundle: Path, tiny_run, tiny):
    bundle, photos = Bundle.open(tiny_bundle), read_folder(Path(tiny_run.record.data))
    with open_candidates(bundle, "cpu") as (engine,):
        turned = EncoderCandidate("turned", "fp32", Turned(engine.backend))
        stages = check_against_run(bundle, [engine, turned], tiny_run, tiny, photos)
    assert [stage.stage for stage in stages if not stage] == ["turned"]
    assert "cosine" in (stages[-1].reason or "")


def test_a_bundle_of_another_run_is_refused(tiny_bundle: Path, tiny_run, tiny, tmp_path: Path):
    from rmatk.config import TrainConfig
    from rmatk.training.train import train

    config = TrainConfig(model=tiny.name, shots=2, epochs=1, rank=4)
    other = train(config, tiny, Path(tiny_run.record.data), tmp_path / "another run")
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(RunError, match="exported from another run") as caught:
        check_against_run(bundle, [], other, tiny, read_folder(Path(tiny_run.record.data)))
    typed = str(caught.value.hint).split(": ")[1]
    assert shlex.split(typed) == ["rmatk", "export", str(other.path), "-o", str(tiny_bundle)]
