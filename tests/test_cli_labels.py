from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_labels_are_listed_added_renamed_and_removed(rmatk, bundle: Path):
    code, out, _ = rmatk("labels", bundle)
    assert code == 0 and "a photo of a blue dot." in out and f"next: rmatk infer {bundle}" in out
    code, out, _ = rmatk("labels", bundle, "add", "red dot", "--prompt", "a {}.", "--prompt", "a blue {}.")
    assert code == 0 and "a red dot. | a blue red dot." in out
    assert rmatk("labels", bundle, "rename", "red dot", "cherry")[0] == 0
    code, out, _ = rmatk("labels", bundle, "remove", "blue dot", "--json")
    assert code == 0
    names = [label["name"] for label in json.loads(out)["labels"]]
    assert names == ["green check", "red stripe", "cherry"]
    code, out, _ = rmatk("labels", bundle, "list")
    assert code == 0 and "a red dot. | a blue red dot." in out
    assert rmatk("parity", bundle)[0] == 0


def test_labels_are_set_from_a_file(rmatk, bundle: Path, tmp_path: Path):
    file = tmp_path / "labels.txt"
    file.write_text("red dot\r\n\nblue check\ta red {}.\t\n")
    code, out, _ = rmatk("labels", bundle, "set", file, "--json")
    assert code == 0
    assert json.loads(out)["labels"] == [
        {"name": "red dot", "prompts": ["a photo of a red dot."]},
        {"name": "blue check", "prompts": ["a red blue check."]},
    ]


def test_mistakes_are_named(rmatk, bundle: Path, tmp_path: Path):
    code, _, err = rmatk("labels", bundle, "remove", "cup")
    assert code == 1 and "there is no label 'cup'" in err and "green check" in err
    code, _, err = rmatk("labels", bundle, "add", "cup", "--prompt", "no place")
    assert code == 1 and "has no {}" in err
    assert rmatk("labels", bundle, "set", tmp_path / "absent.txt")[0] == 2
    code, _, err = rmatk("labels", tmp_path / "absent", "add", "cup")
    assert code == 1 and "no such bundle" in err


def test_a_doubtful_threshold_is_told(rmatk, bundle: Path):
    manifest = bundle / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["decision"]["reject_threshold"] = 0.5
    manifest.write_text(json.dumps(fields))
    code, _, err = rmatk("labels", bundle, "add", "red dot")
    assert code == 0 and "reject threshold (0.500) was fitted before the labels were changed" in err
    assert "fitted before the labels were changed" in " ".join(rmatk("info", bundle)[1].split())
