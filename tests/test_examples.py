"""The scripts in examples/, each run as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(script: str, *arguments: object) -> list[str]:
    """Lines of standard output."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "export", ROOT / "runtime")))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw_photos) -> Path:
    root = tmp_path_factory.mktemp("examples") / "photos"
    return Path(draw_photos(root, {"red_stripe": 4, "green_check": 4, "blue_dot": 4}))


def test_train_and_export(photos: Path, tmp_path: Path):
    bundle = tmp_path / "bundle"
    lines = run(
        "train_and_export.py", photos, tmp_path / "run", bundle, "--model", "rmatk-micro", "--epochs", 2
    )
    assert "3 classes, 12 training photos" in lines and "onnxruntime cpu fp16: ok" in lines
    assert (bundle / "image_encoder.fp16.onnx").is_file()


def test_classify_folder(tiny_bundle: Path, photos: Path, tmp_path: Path):
    inbox, out = tmp_path / "inbox", tmp_path / "sorted"
    inbox.mkdir()
    for name in ("red_stripe", "blue_dot"):
        shutil.copy(photos / name / "0.png", inbox / f"{name}.png")
    lines = run("classify_folder.py", tiny_bundle, inbox, out)
    assert len(lines) == 2 and {path.name for path in out.glob("*/*")} == {"red_stripe.png", "blue_dot.png"}
    lines = run("classify_folder.py", tiny_bundle, inbox, tmp_path / "strict", "--least", 1.0)
    assert all(": unsure (" in line for line in lines)


def test_camera_callback(tiny_bundle: Path):
    *changes, frames = run("camera_callback.py", tiny_bundle, "test://", "--seconds", 1)
    assert changes and all(re.fullmatch(r"\d+\.\d\d s: .+", line) for line in changes)
    assert re.fullmatch(r"[1-9]\d* frames", frames)


def test_new_labels(tiny_bundle: Path, photos: Path, tmp_path: Path):
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    labels, before, after = run("new_labels.py", bundle, "blue stripe", photos / "blue_dot" / "0.png")
    assert labels == "labels: blue dot, green check, red stripe, blue stripe"
    assert "blue stripe" not in before and "blue stripe" in after


def test_compare_bundles(tiny_bundle: Path, photos: Path, tmp_path: Path):
    assert run("compare_bundles.py", tiny_bundle, tiny_bundle, photos) == [
        "0 of 12 pictures have another label"
    ]
    from rmatk_runtime.labels.editor import remove_label

    other = Path(shutil.copytree(tiny_bundle, tmp_path / "other"))
    remove_label(other, "red stripe")
    first, *rows = run("compare_bundles.py", tiny_bundle, other, photos)
    assert first == f"{len(rows)} of 12 pictures have another label" and rows
    assert all(": red stripe (" in row for row in rows)


def test_every_example_is_run_here_and_linked_from_the_readme():
    tested = Path(__file__).read_text(encoding="utf-8")
    scripts = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(scripts) == 5 and all(f'"{name}"' in tested for name in scripts)
    assert "(examples)" in (ROOT / "README.md").read_text(encoding="utf-8")
