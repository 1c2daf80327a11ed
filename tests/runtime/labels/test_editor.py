"""Labels changed where the bundle lies: PyTorch's embeddings, whole at every moment, one editor at a time."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rmatk.run import Run, restore
from rmatk_runtime.bundle import Bundle, read_manifest
from rmatk_runtime.bundle.labels import ClassMatrix, load_classes
from rmatk_runtime.bundle.manifest import Decision, encode_manifest
from rmatk_runtime.errors import BundleError, LabelError, StorageError
from rmatk_runtime.files import write_atomic
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.labels import editor as label_editor
from rmatk_runtime.labels.editor import (
    add_label,
    keep_threshold,
    read_labels,
    remove_label,
    rename_label,
    set_labels,
)
from rmatk_runtime.parity.walk import check_golden
from rmatk_runtime.selection import open_candidates

OLD = ("blue dot", "green check", "red stripe")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def fit(bundle: Path, **fields: object) -> None:
    """Give the bundle a fitted decision."""
    manifest = read_manifest(bundle)
    decision = msgspec.structs.replace(manifest.decision, **fields)
    write_atomic(
        bundle / "manifest.json", encode_manifest(msgspec.structs.replace(manifest, decision=decision))
    )


def opened(path: Path) -> ClassMatrix:
    return Bundle.open(path).classes()


def labels(path: Path) -> dict[str, tuple[str, ...]]:
    return {label.name: label.prompts for label in read_labels(path)}


def test_an_added_label_has_pytorchs_embedding(bundle: Path, tiny_run: Run, tiny):
    before = opened(bundle)
    edited = add_label(bundle, "blue  stripe", ["a photo of a {}.", "a red {}."])
    model = restore(tiny_run, tiny)
    expected = model.class_embeddings(["blue stripe"], ["a photo of a {}.", "a red {}."]).numpy()[0]
    after = opened(bundle)
    assert after.names == (*OLD, "blue stripe")
    np.testing.assert_allclose(after.embeddings[3], expected, atol=1e-4)
    np.testing.assert_array_equal(after.embeddings[:3], before.embeddings)  # those of the export stay
    assert edited.labels[3].prompts == ("a photo of a blue stripe.", "a red blue stripe.")
    assert labels(bundle)["blue stripe"] == edited.labels[3].prompts and not edited.warnings


def test_without_prompts_the_bundles_own_are_used(bundle: Path, tiny_run: Run, tiny):
    add_label(bundle, "blue check")
    templates = read_manifest(bundle).labels.templates
    expected = restore(tiny_run, tiny).class_embeddings(["blue check"], templates).numpy()[0]
    np.testing.assert_allclose(opened(bundle).embeddings[3], expected, atol=1e-4)
    assert read_manifest(bundle).labels.prompts == {}


def test_a_renamed_label_keeps_its_row_and_remembers_its_prompt(bundle: Path):
    before = opened(bundle)
    rename_label(bundle, "green check", "red check")
    after = opened(bundle)
    assert after.names == ("blue dot", "red check", "red stripe")
    np.testing.assert_array_equal(after.embeddings, before.embeddings)
    assert labels(bundle)["red check"] == ("a photo of a green check.",)
    rename_label(bundle, "red check", "green check")
    assert read_manifest(bundle).labels.prompts == {}


def test_all_labels_are_replaced_in_the_order_given(bundle: Path):
    before = opened(bundle)
    set_labels(bundle, [("red dot", []), ("blue dot", []), ("green check", ["a red {}."])])
    after = opened(bundle)
    assert after.names == ("red dot", "blue dot", "green check")
    np.testing.assert_array_equal(after.embeddings[1], before.embeddings[0])
    assert np.abs(after.embeddings[2] - before.embeddings[1]).max() > 1e-3


def test_parity_on_the_device_still_passes(bundle: Path):
    add_label(bundle, "blue stripe")
    remove_label(bundle, "red stripe")
    after = Bundle.open(bundle)
    with open_candidates(after, "cpu") as engines:
        preprocessing, stage = check_golden(after, engines)
    assert preprocessing and stage
    assert stage.agreement == 1.0 and stage.accuracy is None  # a golden picture's label has gone


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda b: add_label(b, "blue dot"), "two labels called 'blue dot'"),
        (lambda b: add_label(b, " \t"), "must not be empty"),
        (lambda b: add_label(b, "x" * 101), "has 101 characters"),
        (lambda b: add_label(b, "a\x07b"), "cannot be printed"),
        (lambda b: add_label(b, "red dot", ["a photo."]), "'a photo.' of 'red dot' has no {}"),
        (lambda b: remove_label(b, "cup"), "no label 'cup'"),
        (lambda b: rename_label(b, "cup", "mug"), "no label 'cup'"),
        (lambda b: rename_label(b, "blue dot", "red stripe"), "two labels called 'red stripe'"),
        (lambda b: rename_label(b, "blue dot", ""), "must not be empty"),
        (lambda b: set_labels(b, []), "at least one label"),
        (lambda b: keep_threshold(b, 1.5), "between 0 and 1"),
    ],
)
def test_what_cannot_be_done_is_named_and_changes_nothing(bundle: Path, edit, message: str):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(LabelError, match=message):
        edit(bundle)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_the_last_label_stays(bundle: Path):
    remove_label(bundle, "blue dot")
    remove_label(bundle, "red stripe")
    with pytest.raises(LabelError, match="'green check' is the last label"):
        remove_label(bundle, "green check")


def test_no_bundle_and_an_altered_text_encoder_are_refused(bundle: Path, tmp_path: Path):
    with pytest.raises(BundleError, match="no such bundle"):
        add_label(tmp_path / "nothing", "red dot")
    (bundle / "text_encoder.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"text_encoder\.onnx has 5 bytes"):
        add_label(bundle, "red dot")


def test_long_prompts_and_labels_that_mean_the_same_are_warned_of(bundle: Path):
    edited = add_label(bundle, "red dot", ["a {}. " + "red " * 20])
    assert edited.warnings == ("the prompt of 'red dot' has more than 16 tokens; the rest does not count",)
    rename_label(bundle, "blue dot", "green dot")
    (warning,) = add_label(bundle, "blue dot").warnings
    assert "'green dot' and 'blue dot' mean the same" in warning


def test_a_fitted_threshold_is_doubted_once_other_labels_come_or_go(bundle: Path):
    add_label(bundle, "red dot")
    assert not read_manifest(bundle).decision.labels_changed  # nothing was fitted
    fit(bundle, reject_threshold=0.4)
    rename_label(bundle, "red dot", "green dot")
    assert not read_manifest(bundle).decision.labels_changed
    remove_label(bundle, "green dot")
    decision = read_manifest(bundle).decision
    assert decision.labels_changed and decision.reject_threshold == 0.4
    keep_threshold(bundle, 0.6)
    decision = read_manifest(bundle).decision
    assert not decision.labels_changed and decision.reject_threshold == 0.6


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_failure_in_the_middle_leaves_the_old_labels(bundle: Path, monkeypatch, fails_at: int):
    calls = 0

    def failing(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise StorageError(f"disk full while writing {path}")
        write_atomic(path, data)

    monkeypatch.setattr(label_editor, "write_atomic", failing)
    with pytest.raises(StorageError):
        add_label(bundle, "red dot")
    assert opened(bundle).names == OLD


def test_the_matrix_before_stays_for_a_reader_and_no_older_one(bundle: Path):
    reader = Bundle.open(bundle)
    add_label(bundle, "red dot")
    assert reader.classes().names == OLD
    for name in ("blue check", "blue stripe", "green dot"):
        add_label(bundle, name)
    assert len(list(bundle.glob("classes*"))) == 2
    assert read_manifest(bundle).labels.file in {path.name for path in bundle.glob("classes*")}


def test_a_bundle_opened_while_its_labels_change_is_read_again(bundle: Path, monkeypatch):
    plain, left = Bundle.verify, [2]

    def verify(self: Bundle, name: str) -> None:
        if name.startswith("classes") and left[0]:  # twice, so that the file it looks for is gone
            left[0] -= 1
            monkeypatch.undo()
            add_label(bundle, "red dot")
            add_label(bundle, "green dot")
        plain(self, name)

    monkeypatch.setattr(Bundle, "verify", verify)
    assert Bundle.open(bundle).classes().names == (*OLD, "red dot", "green dot")


def test_editors_take_turns_and_readers_always_see_a_whole_bundle(bundle: Path):
    names = [f"{colour} {kind}" for colour in ("blue", "green", "red") for kind in ("blue", "green", "red")]
    threads = [threading.Thread(target=add_label, args=(bundle, name, ["a {} dot."])) for name in names]
    seen = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(len(opened(bundle).names))
    for thread in threads:
        thread.join()
    assert set(opened(bundle).names) == {*OLD, *names}
    assert seen == sorted(seen)


def test_a_running_classifier_takes_the_new_label_over(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rmatk_runtime.labels.watch.PERIOD", 0.0)
    with Classifier.open(bundle, top_k=9) as classifier:
        add_label(bundle, "red dot")
        classifier.refresh()
        picture = np.full((40, 40, 3), 128, np.uint8)
        assert {score.label for score in classifier.classify([picture])[0].top} == {*OLD, "red dot"}
        keep_threshold(bundle, 0.99)
        classifier.refresh()
        assert classifier.classify([picture])[0].rejected


def test_a_manifest_written_before_prompts_were_kept_is_read(bundle: Path):
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    del manifest["labels"]["prompts"], manifest["decision"]["labels_changed"]
    write_atomic(bundle / "manifest.json", msgspec.json.encode(manifest))
    assert labels(bundle)["blue dot"] == ("a photo of a blue dot.",)
    assert read_manifest(bundle).decision == Decision(logit_scale=manifest["decision"]["logit_scale"])
    assert load_classes(bundle / "classes.npz").names == OLD
