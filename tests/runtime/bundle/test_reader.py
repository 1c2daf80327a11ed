"""A bundle is used only when every byte is the one that was exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.golden import GoldenSet, encode_golden, load_golden
from rmatk_runtime.bundle.labels import ClassMatrix, encode_classes, load_classes
from rmatk_runtime.bundle.manifest import decode_manifest, encode_manifest
from rmatk_runtime.errors import BundleError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_opens_and_holds_what_was_trained(tiny_bundle: Path):
    bundle = Bundle.open(tiny_bundle)
    assert bundle.classes().names == ("blue dot", "green check", "red stripe")
    assert {path.name for path in tiny_bundle.iterdir()} == {*bundle.manifest.files, "manifest.json"}
    golden = bundle.golden()
    assert golden is not None and set(golden.labels) == set(bundle.classes().names)
    with pytest.raises(BundleError, match="no int8 graph on images, only fp32"):
        bundle.graph("int8")


def test_every_changed_byte_is_found_and_the_file_named(copy: Path):
    for name in Bundle.open(copy).manifest.files:
        whole = (copy / name).read_bytes()
        middle = len(whole) // 2
        (copy / name).write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(BundleError, match=f"{name} was altered"):
            Bundle.open(copy)
        (copy / name).write_bytes(whole[:-1])
        with pytest.raises(BundleError, match=f"{name} has {len(whole) - 1} bytes"):
            Bundle.open(copy)
        (copy / name).unlink()
        with pytest.raises(BundleError, match=f"{name} is missing"):
            Bundle.open(copy)
        (copy / name).write_bytes(whole)
    Bundle.open(copy)


def test_half_written_absent_and_mistaken_folders(copy: Path, tmp_path: Path):
    with pytest.raises(BundleError, match="no such bundle"):
        Bundle.open(tmp_path / "absent")
    (copy / "manifest.json").unlink()
    with pytest.raises(BundleError, match="only half of one"):
        Bundle.open(copy)
    (copy / "run.json").write_text("{}")
    with pytest.raises(BundleError, match="is a training run"):
        Bundle.open(copy)


def test_manifest_round_trip_and_paths_that_leave(copy: Path):
    file = copy / "manifest.json"
    manifest = decode_manifest(file.read_bytes(), "here")
    assert encode_manifest(manifest) == file.read_bytes()
    record = json.loads(file.read_text())
    record["files"]["../outside"] = {"size": 1, "sha256": "0" * 64}
    file.write_text(json.dumps(record))
    with pytest.raises(BundleError, match="not allowed"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.update(version=2), r"\$\.version"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["preprocess"].update(std=[0, 1, 1]), "std must be positive"),
        (lambda m: m["graphs"][0].update(precision="fp7"), r"\$\.graphs\[0\]\.precision"),
        (lambda m: m.pop("decision"), "decision"),
        (lambda m: m["graphs"][0].update(file="elsewhere.onnx"), "elsewhere.onnx is used"),
    ],
)
def test_wrong_manifests_say_where(copy: Path, change, expected: str):
    record = json.loads((copy / "manifest.json").read_text())
    change(record)
    (copy / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(BundleError, match=expected):
        Bundle.open(copy)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_by_name(tmp_path: Path, data: bytes):
    file = tmp_path / "file.npz"
    file.write_bytes(data)
    for read in (
        load_classes,
        lambda path: load_golden(path, "photos"),
        lambda path: decode_manifest(path.read_bytes(), str(path)),
    ):
        with pytest.raises(BundleError, match="file.npz"):
            read(file)


def test_classes_round_trip_with_any_names(tmp_path: Path):
    rows = np.eye(3, 5, dtype=np.float32)
    classes = ClassMatrix(("süß", "日本", "a b/c"), rows)
    (tmp_path / "classes.npz").write_bytes(encode_classes(classes))
    loaded = load_classes(tmp_path / "classes.npz")
    assert loaded.names == classes.names
    np.testing.assert_array_equal(loaded.embeddings, rows)


@pytest.mark.parametrize(
    ("names", "rows", "expected"),
    [
        (("a",), np.eye(2, 4), "1 names"),
        (("a", "a"), np.eye(2, 4), "same name"),
        (("a", "b"), 2 * np.eye(2, 4), "unit length"),
        ((), np.zeros((0, 4)), "0 names"),
    ],
)
def test_class_matrices_that_cannot_be(names, rows, expected):
    with pytest.raises(ValueError, match=expected):
        ClassMatrix(names, rows.astype(np.float32))


def test_pickled_objects_are_never_loaded(tmp_path: Path):
    np.savez(tmp_path / "classes.npz", names=np.array([object()], dtype=object), embeddings=np.eye(1, 4))
    with pytest.raises(BundleError, match=r"holds \|O, not <U"):
        load_classes(tmp_path / "classes.npz")


def test_golden_round_trip(tmp_path: Path):
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(0, 256, (h, 7, 3), dtype=np.uint8) for h in (5, 6))
    golden = GoldenSet(
        images, ("a.jpg", "b.jpg"), ("x", ""), ("d", "e"), np.eye(2, 4, dtype=np.float32), "rendered"
    )
    (tmp_path / "golden.npz").write_bytes(encode_golden(golden))
    loaded = load_golden(tmp_path / "golden.npz", "rendered")
    assert loaded.names == golden.names and loaded.labels == golden.labels
    for ours, theirs in zip(loaded.images, images, strict=True):
        np.testing.assert_array_equal(ours, theirs)
