"""Carry out a stage of the Dockerfile without a container engine: under chroot, in a Debian folder.

For machines that have none, to see that every RUN line works and that the command starts as the image's user:

    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm DEBIAN
    python tools/run_dockerfile.py DEBIAN runtime

DEBIAN stands in for the images that stages start from, so only stages on Debian with Python can be carried
out: those of Dockerfile, not the last of Dockerfile.jetson. Needs root and the network. Each stage becomes a
folder DEBIAN.STAGE.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[1]


@dataclass
class Stage:
    """A folder that becomes an image: what its lines have set so far."""

    path: Path
    env: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    )
    folder: str = "/"
    user: str = "0"
    start: list[str] = field(default_factory=list)

    def run(self, command: str) -> None:
        """Run a shell line as the image's user, with its environment and folder."""
        line = [
            shutil.which("chroot") or "chroot",
            f"--userspec={self.user}:{self.user}",
            str(self.path),
            "/bin/sh",
            "-ec",
        ]
        print(f"   {self.user}$ {command}", flush=True)
        subprocess.run([*line, f"cd {self.folder}\n{command}"], check=True, env=self.env)

    def inside(self, target: str) -> Path:
        """The place of a path of the image on this machine."""
        return self.path / str(Path(self.folder) / target).lstrip("/")


def main() -> None:
    """Carry out the wanted stage and those that it rests on, then start it as its user would."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("debian", type=Path, help="a folder made by debootstrap")
    parser.add_argument("target", help="name of the stage")
    options = parser.parse_args()
    recipes: dict[str, list[tuple[str, str]]] = {}
    with (ROOT / "Dockerfile").open("rb") as file:
        for line in DockerfileParser(fileobj=file).structure:
            if line["instruction"] == "FROM":
                recipe = recipes[line["value"].split()[-1]] = []
            if line["instruction"] != "COMMENT":
                recipe.append((line["instruction"], line["value"]))
    if options.target not in recipes:
        sys.exit(f"no stage {options.target!r}; there are {', '.join(recipes)}")
    stage = _build(options.target, recipes, options.debian, {})
    stage.run(" ".join(stage.start))


def _build(
    name: str, recipes: dict[str, list[tuple[str, str]]], debian: Path, stages: dict[str, Stage]
) -> Stage:
    """Carry out a stage after those it names; each once."""
    (_, start), *lines = recipes[name]
    for other in [start.split()[0], *re.findall(r"from=(\w+)", " ".join(value for _, value in lines))]:
        if other in recipes and other not in stages:
            _build(other, recipes, debian, stages)
    stage = stages[name] = _begin(stages.get(start.split()[0]), debian, name)
    print(f"== {name}: FROM {start}", flush=True)
    for instruction, value in lines:
        _carry_out(instruction, value, stage, stages)
    return stage


def _begin(base: Stage | None, debian: Path, name: str) -> Stage:
    """A copy of the stage that it starts from; Debian and a plain pip in place of an image from elsewhere."""
    path = debian.with_name(f"{debian.name}.{name}")
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["cp", "-a", str(base.path if base else debian), str(path)], check=True)
    if base is not None:
        return Stage(path, dict(base.env), base.folder, base.user, list(base.start))
    stage = Stage(path)
    for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(file, stage.inside(file))
    stage.run("python3 -m venv /opt/python")  # Debian's own pip refuses to install
    stage.inside("/usr/local/bin/pip").symlink_to("/opt/python/bin/pip")
    return stage


def _carry_out(instruction: str, value: str, stage: Stage, stages: dict[str, Stage]) -> None:
    """One line that is not FROM."""
    value = (
        re.sub(r"\$\{?(\w+)\}?", lambda m: stage.env.get(m[1], m[0]), value)
        if instruction != "RUN"
        else value
    )
    if instruction in ("ENV", "ARG"):
        stage.env |= dict(re.findall(r'(\w+)="?([^"\s]*)"?', value))
    elif instruction == "WORKDIR":
        stage.folder = value
        stage.inside("").mkdir(parents=True, exist_ok=True)
    elif instruction == "USER":
        stage.user = value
    elif instruction == "COPY":
        *sources, target = value.split()
        for source in sources:
            _copy(ROOT / source, stage.inside(target))
    elif instruction == "RUN":
        _run(value, stage, stages)
    elif instruction in ("ENTRYPOINT", "CMD"):
        stage.start += re.findall(r'"([^"]*)"', value)
    elif instruction == "HEALTHCHECK":
        print("   not run: HEALTHCHECK, whose command is CMD's with a bundle", flush=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _run(value: str, stage: Stage, stages: dict[str, Stage]) -> None:
    """A RUN line; what it binds is copied in for its time."""
    bound = []
    while match := re.match(r"--mount=(\S+)\s+", value):
        mount = dict(item.split("=", 1) for item in match[1].split(","))
        source = mount["source"].lstrip("/")
        target = stage.inside(mount["target"])
        _copy(stages[mount["from"]].path / source if "from" in mount else ROOT / source, target)
        bound.append(target)
        value = value[match.end() :]
    stage.run(value)
    for target in bound:
        shutil.rmtree(target) if target.is_dir() else target.unlink()


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("needs root, for chroot")
    main()
