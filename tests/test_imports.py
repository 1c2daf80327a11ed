"""The house: imports go one way, and the device's part never needs torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "rmatk_runtime": ROOT / "runtime" / "rmatk_runtime",
    "rmatk_export": ROOT / "export" / "rmatk_export",
    "rmatk": ROOT / "rmatk",
}
MAY_IMPORT = {
    "rmatk_runtime": {"rmatk_runtime"},
    "rmatk_export": {"rmatk_export", "rmatk_runtime"},
    "rmatk": {"rmatk", "rmatk_export", "rmatk_runtime"},
}
TRAINING_ONLY = {"torch", "torchvision", "open_clip", "timm", "onnx", "safetensors"}


def imports(folder: Path) -> dict[str, set[str]]:
    """Top-level names imported by each module, wherever in it the import stands."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names.add((node.module or "").split(".")[0])
        found[str(path.relative_to(ROOT))] = names
    assert found
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str):
    for module, names in imports(ROOMS[room]).items():
        assert names & set(ROOMS) <= MAY_IMPORT[room], module


def test_the_runtime_names_nothing_of_the_training_side():
    for module, names in imports(ROOMS["rmatk_runtime"]).items():
        assert not names & TRAINING_ONLY, module


RUN = "import sys; sys.argv = ['rmatk', *{args!r}]\nfrom rmatk.cli import main\n"
REPORT = "try:\n    main()\nfinally:\n    print('LOADED', *sorted({names!r} & set(sys.modules)))"


@pytest.mark.parametrize("args", [["--help"], ["infer", "--help"], ["train", "--help"], ["doctor"]])
def test_the_command_line_starts_without_torch(args: list[str]):
    code = RUN.format(args=args) + REPORT.format(names=TRAINING_ONLY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "LOADED\n" in done.stdout


def test_inference_itself_never_loads_torch(tiny_bundle: Path, tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (40, 40), (200, 10, 10)).save(tmp_path / "photo.png")
    args = ["infer", str(tiny_bundle), str(tmp_path / "photo.png"), "--json"]
    code = RUN.format(args=args) + REPORT.format(names=TRAINING_ONLY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("LOADED\n")
