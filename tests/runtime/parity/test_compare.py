"""Parity's figures against NumPy by hand, and each tolerance failing by name."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import MANIFEST, Decision, FileEntry, Tolerance, encode_manifest
from rmatk_runtime.errors import BundleError
from rmatk_runtime.files import sha256_file
from rmatk_runtime.parity.compare import Expected, Judge, compare_embeddings
from rmatk_runtime.parity.reference import GoldenReference, golden_of
from rmatk_runtime.parity.stage import StageKind
from rmatk_runtime.parity.statistics import accuracy_difference
from rmatk_runtime.parity.walk import EncoderCandidate, check, check_golden
from rmatk_runtime.selection import open_candidates

CLASSES = ClassMatrix(("left", "right"), np.array([[1, 0], [0, 1]], np.float32))
LOOSE = Tolerance(min_cosine=-1.0, max_embedding_difference=9.0, min_agreement=0.0)


def unit(*degrees: float) -> Float32:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def compare(candidate: Float32, tolerance: Tolerance = LOOSE, truth=("left", "left", "right")):
    return compare_embeddings(
        "stage",
        StageKind.GRAPH,
        "fp32",
        Expected(("a", "b", "c"), unit(10, 40, 80), truth),
        candidate,
        Judge(CLASSES, Decision(logit_scale=10.0, temperature=2.0), {"fp32": tolerance}),
    )


def test_figures_are_the_formulas():
    result = compare(unit(10, 50, 78))
    assert result.min_cosine == pytest.approx(np.cos(np.radians(10)), abs=1e-6)
    assert result.mean_cosine == pytest.approx(np.cos(np.radians([0, 10, 2])).mean(), abs=1e-6)
    difference = np.abs(unit(40) - unit(50)).max()
    assert result.max_embedding_difference == pytest.approx(difference, abs=1e-6)
    assert result.max_logit_difference == pytest.approx(difference * 10 / 2, abs=1e-5)
    assert result.agreement == pytest.approx(2 / 3)
    assert result.expected_changes == pytest.approx(1 / 9)  # of 3 photos with 3 errors, b with its own
    assert result.accuracy == pytest.approx(2 / 3) and result.reference_accuracy == 1.0
    assert result.accuracy_difference == accuracy_difference(
        np.array([True, True, True]), np.array([True, False, True])
    )
    (flip,) = result.flips
    logits = 5 * np.array([np.cos(np.radians(40)), np.sin(np.radians(40))])
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert (flip.image, flip.reference, flip.candidate) == ("b", "left", "right")
    assert flip.margin == pytest.approx(probabilities[0] - probabilities[1], abs=1e-6)
    assert result and compare(unit(10, 40, 80), truth=None).accuracy is None


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"min_cosine": 0.99}, "cosine 0.98"),
        ({"max_embedding_difference": 0.05}, "an embedding differs by"),
        ({"min_agreement": 0.9}, "top-1 agreement 66.67%"),
    ],
)
def test_each_tolerance_fails_by_name(limits, reason):
    result = compare(unit(10, 50, 80), msgspec.structs.replace(LOOSE, **limits))
    assert not result and reason in (result.reason or "")


def test_values_that_are_not_numbers_or_of_another_shape_fail():
    broken = unit(10, 40, 80)
    broken[1, 0] = np.nan
    assert not compare(broken) and "not finite" in (compare(broken).reason or "")
    assert "shape" in (compare(unit(10, 40)).reason or "")


def test_a_sound_bundle_passes_on_its_golden_set(tiny_bundle: Path):
    bundle = Bundle.open(tiny_bundle)
    with open_candidates(bundle, "cpu") as engines:
        stages = check(GoldenReference.of(bundle), engines * 2, Judge.of(bundle), batch=3)
    assert [stage.stage for stage in stages] == ["preprocessing", *["onnxruntime cpu fp32"] * 2]
    assert all(stages) and stages[1] == stages[2]
    golden = golden_of(bundle)
    assert stages[1].accuracy_difference is not None
    unknown = dataclasses.replace(golden, labels=("",) * len(golden.labels))
    with open_candidates(bundle, "cpu") as engines:
        reference = GoldenReference(unknown, bundle.manifest.preprocess)
        engine = check(reference, engines, Judge.of(bundle))[1]
    assert engine and engine.accuracy is None and engine.accuracy_difference is None


class Drifting(Backend):
    """An engine that is wrong by a little."""

    name = "drifting"

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def embed(self, images: Float32) -> Float32:
        return self.inner.embed(images) + np.float32(2e-3)


def test_preprocessing_and_engine_are_told_apart(tiny_bundle: Path, tmp_path: Path):
    bundle = Bundle.open(tiny_bundle)
    with open_candidates(bundle, "cpu") as (sound,):
        drifting = EncoderCandidate("drifting", "fp32", Drifting(sound.backend))
        preprocessing, engine, other = check_golden(bundle, [drifting, sound])
        assert preprocessing and not engine and other and engine.stage == "drifting"
        changed = rewritten(tiny_bundle, tmp_path / "copy", std=(0.25, 0.25, 0.250001))
        (preprocessing,) = check_golden(changed, [sound])
        assert not preprocessing and "8 of 8 tensors differ" in (preprocessing.reason or "")


def rewritten(bundle: Path, copy: Path, **preprocess: object) -> Bundle:
    """A copy with other preprocessing constants and a manifest that is consistent with itself."""
    shutil.copytree(bundle, copy)
    manifest = Bundle.open(copy).manifest
    spec = msgspec.structs.replace(manifest.preprocess, **preprocess)
    (copy / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(manifest, preprocess=spec)))
    return Bundle.open(copy)


def test_without_a_golden_set_it_says_what_to_do(tiny_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    manifest = Bundle.open(copy).manifest
    files = {
        name: FileEntry(size=(copy / name).stat().st_size, sha256=sha256_file(copy / name))
        for name in manifest.files
        if name != "golden.npz"
    }
    bare = msgspec.structs.replace(manifest, golden=None, files=files)
    (copy / MANIFEST).write_bytes(encode_manifest(bare))
    with pytest.raises(BundleError, match="golden"):
        golden_of(Bundle.open(copy))
