"""Pictures kept from the live view: folders that training reads, no name that leaves them, no full disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rmatk.data.photos import read_folder
from rmatk_runtime.errors import LabelError, StorageError
from rmatk_runtime.web import snapshots
from rmatk_runtime.web.snapshots import Snapshots, folder_name

PICTURE = np.full((20, 30, 3), 90, np.uint8)


def test_training_reads_what_was_kept(tmp_path: Path):
    kept = Snapshots(tmp_path / "new" / "shots")
    for label in ("soup plate", "mug", "soup  plate"):
        path = kept.root / kept.save(PICTURE, label)
        assert Image.open(path).size == (30, 20)
    assert kept.counts() == {"mug": 1, "soup plate": 2}
    photos = read_folder(kept.root)
    assert photos.class_names == ("mug", "soup plate") and len(photos.flat()[0]) == 3


@pytest.mark.parametrize(
    "label", ["../../etc", "/etc/passwd", "..", ".hidden", "a\\b", "con:x", "日本 語", "é" * 100]
)
def test_no_label_leaves_the_folder(tmp_path: Path, label: str):
    kept = Snapshots(tmp_path / "shots")
    path = kept.save(PICTURE, label)
    assert len(path.parts) == 2 and not path.parts[0].startswith(".")
    assert (tmp_path / "shots" / path).resolve().parent.parent == tmp_path / "shots"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shots"]


@given(st.lists(st.text("ab/\\. _-é:", min_size=1, max_size=6), min_size=2, max_size=2))
def test_two_labels_never_share_a_folder(labels: list[str]):
    try:
        one, other = (snapshots.clean_name(label) for label in labels)
    except LabelError:
        return
    assert (folder_name(one) == folder_name(other)) == (one == other)


def test_a_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = Snapshots(tmp_path)
    monkeypatch.setattr(snapshots, "LEAST_FREE", 1 << 62)
    with pytest.raises(StorageError, match="MB are free"):
        kept.save(PICTURE, "mug")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        Snapshots(tmp_path / "file" / "shots")
