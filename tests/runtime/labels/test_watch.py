"""Labels that change under a running classifier: taken over when whole, refused when not."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rmatk_runtime.bundle import Bundle, read_manifest
from rmatk_runtime.bundle.labels import ClassMatrix, encode_classes
from rmatk_runtime.bundle.manifest import Decision, FileEntry, Manifest, encode_manifest
from rmatk_runtime.files import write_atomic
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.labels.watch import PERIOD, LabelWatch

NEW = ("blue dot", "bottle")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def new_labels(bundle: Path, names: tuple[str, ...] = NEW) -> tuple[bytes, Manifest]:
    """A class matrix for ``names`` and the manifest that goes with it."""
    manifest = read_manifest(bundle)
    data = encode_classes(ClassMatrix(names, np.eye(len(names), manifest.model.embed_dim, dtype=np.float32)))
    entry = FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    files = {**manifest.files, manifest.labels.file: entry}
    return data, msgspec.structs.replace(manifest, files=files, decision=Decision(logit_scale=7.0))


def change(bundle: Path, names: tuple[str, ...] = NEW) -> None:
    data, manifest = new_labels(bundle, names)
    write_atomic(bundle / manifest.labels.file, data)
    write_atomic(bundle / "manifest.json", encode_manifest(manifest))


def watch(bundle: Path) -> tuple[LabelWatch, Clock]:
    clock = Clock()
    return LabelWatch(Bundle.open(bundle), clock), clock


def test_changed_labels_are_taken_over_once_and_told(bundle: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    watching, clock = watch(bundle)
    clock.now += PERIOD
    assert watching.poll() is None
    change(bundle)
    assert watching.poll() is None  # not yet time to look
    clock.now += PERIOD
    changed = watching.poll()
    assert changed is not None
    assert changed[0].names == NEW and changed[1].logit_scale == 7.0
    assert "labels changed: now 2 (blue dot, bottle)" in caplog.text
    clock.now += PERIOD
    assert watching.poll() is None


def test_a_change_between_opening_and_the_first_look_is_seen(bundle: Path):
    watching, clock = watch(bundle)
    change(bundle)
    clock.now += PERIOD
    assert watching.poll() is not None


def test_broken_labels_are_told_once_and_looked_at_again_when_repaired(
    bundle: Path, caplog: pytest.LogCaptureFixture
):
    watching, clock = watch(bundle)
    data, manifest = new_labels(bundle)
    write_atomic(bundle / "manifest.json", encode_manifest(manifest))  # the matrix is still on its way
    for _ in range(3):
        clock.now += PERIOD
        assert watching.poll() is None
    assert caplog.text.count("labels stay as they are") == 1 and "classes.npz" in caplog.text
    write_atomic(bundle / manifest.labels.file, data)
    clock.now += PERIOD
    changed = watching.poll()
    assert changed is not None and changed[0].names == NEW


@pytest.mark.parametrize("what", ["model", "graph", "width", "rubbish"])
def test_labels_of_another_model_are_refused(bundle: Path, what: str, caplog: pytest.LogCaptureFixture):
    watching, clock = watch(bundle)
    data, manifest = new_labels(bundle)
    if what == "model":
        model = msgspec.structs.replace(manifest.model, backbone_digest="0" * 64)
        manifest = msgspec.structs.replace(manifest, model=model)
    elif what == "graph":
        provenance = msgspec.structs.replace(manifest.provenance, graph_digests={"image_encoder.onnx": "0"})
        manifest = msgspec.structs.replace(manifest, provenance=provenance)
    elif what == "width":
        data = encode_classes(ClassMatrix(NEW, np.eye(2, dtype=np.float32)))
        entry = FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        files = {**manifest.files, manifest.labels.file: entry}
        manifest = msgspec.structs.replace(manifest, files=files)
    write_atomic(bundle / manifest.labels.file, data)
    write_atomic(bundle / "manifest.json", b"{" if what == "rubbish" else encode_manifest(manifest))
    clock.now += PERIOD
    assert watching.poll() is None
    assert "labels stay as they are" in caplog.text


def test_a_manifest_rewritten_for_another_reason_changes_nothing(
    bundle: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    watching, clock = watch(bundle)
    write_atomic(bundle / "manifest.json", encode_manifest(read_manifest(bundle)))
    clock.now += PERIOD
    assert watching.poll() is None and not caplog.text
    (bundle / "manifest.json").unlink()
    clock.now += PERIOD
    assert watching.poll() is None and not caplog.text


def test_a_running_classifier_answers_with_the_new_labels(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rmatk_runtime.labels.watch.PERIOD", 0.0)
    picture = np.full((40, 40, 3), 128, np.uint8)
    with Classifier.open(bundle, top_k=3, threshold=0.0) as classifier:
        assert len(classifier.classify([picture])[0].top) == 3
        change(bundle)
        assert len(classifier.classify([picture])[0].top) == 3  # only where it is asked to
        classifier.refresh()
        assert classifier.labels == NEW
        assert {score.label for score in classifier.classify([picture])[0].top} == set(NEW)
