"""What is installed on a device: the wheel holds all three rooms and their data, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("rmatk", "export/rmatk_export", "runtime/rmatk_runtime")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    pytest.importorskip("hatchling")
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return target


def test_the_wheel_holds_every_file_of_the_three_rooms_and_nothing_else(built: Path):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    info = {name for name in names if ".dist-info/" in name}
    expected = {
        file.relative_to((ROOT / room).parent).as_posix()
        for room in ROOMS
        for file in (ROOT / room).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert names - info == expected
    data = {
        "rmatk/backbones/micro/weights.safetensors",
        "rmatk/backbones/small/weights.safetensors",
        "rmatk/pages/report.html",
        "rmatk_runtime/doctor/identity.onnx",
    }
    assert data <= names
    assert {f"{Path(room).name}/py.typed" for room in ROOMS} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in info)
    assert path.stat().st_size < 40_000_000


def test_the_wheel_asks_for_no_torch_and_names_its_command(built: Path):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
        scripts = wheel.read(f"{info}/entry_points.txt").decode()
    base = [entry for entry in metadata.get_all("Requires-Dist", []) if "extra ==" not in entry]
    assert {entry.split(">")[0] for entry in base} == {"msgspec", "numpy", "pillow", "rich", "typer"}
    assert metadata["Requires-Python"] == ">=3.10"
    assert "rmatk = rmatk.cli:main" in scripts


def test_the_sdist_builds_without_what_only_the_repository_needs(built: Path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "LICENSE", "rmatk/backbones/micro/weights.safetensors"} <= names
    assert not {name for name in names if name.startswith((".ci", "benchmarks/results"))}
    assert path.stat().st_size < 40_000_000
