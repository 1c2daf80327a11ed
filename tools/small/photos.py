"""Photographs from public Git repositories, and what EfficientNet-Lite0's frozen stem makes of them.

Each repository is a bare clone, ``MIRRORS/<owner>+<name>/repo``; photos are read from its objects and never
written out. None of them is in rmatk's repository or wheel; MODEL_CARD.md has their terms.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image

SIDE, BATCH, TOKENS, CHANNELS = 224, 32, 49, 320


@dataclass(frozen=True)
class PhotoSet:
    """Photos of a ``repository`` at a ``commit`` whose path starts with ``under``; at most ``most`` of each
    ``group`` that a path belongs to."""

    repository: str
    commit: str
    under: str
    group: Callable[[str], str]
    most: int


SETS = {
    "samples": PhotoSet("EliSchwartz+imagenet-sample-images", "bc69043e", "", lambda path: path, 1),
    "flickr": PhotoSet("RlNZLER+Image-Text-Matching", "56a15d91", "data/images/", lambda path: path, 1),
    "nette": PhotoSet("thunderInfy+imagenette", "b850f030", "train/", lambda path: path.split("/")[1], 200),
    "tiny": PhotoSet(
        "seshuad+IMagenet", "153dbc16", "tiny-imagenet-200/train/", lambda path: path.split("/")[2], 40
    ),
}
CAPTIONS = ("prakhar-dhakar+Image-Captioning", "5ab31421", "Flickr8k.token.txt")


def git(mirrors: Path, repository: str, *arguments: str) -> str:
    """What git answers about a bare clone."""
    command = ["git", "-C", str(mirrors / repository / "repo"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def listed(mirrors: Path, name: str) -> list[tuple[str, str]]:
    """(path, object) of a set's photos, sorted by path."""
    photos = SETS[name]
    lines = git(mirrors, photos.repository, "ls-tree", "-r", photos.commit).splitlines()
    rows = sorted((path, meta.split()[2]) for meta, path in (line.split("\t") for line in lines))
    count: dict[str, int] = {}
    chosen = []
    for path, blob in rows:
        if path.startswith(photos.under) and path.lower().endswith((".jpg", ".jpeg", ".png")):
            group = photos.group(path)
            count[group] = count.get(group, 0) + 1
            if count[group] <= photos.most:
                chosen.append((path, blob))
    return chosen


def captions(mirrors: Path) -> dict[str, list[str]]:
    """Flickr8k's five captions by file name."""
    repository, commit, path = CAPTIONS
    found: dict[str, list[str]] = {}
    for line in git(mirrors, repository, "show", f"{commit}:{path}").splitlines():
        name, text = line.split("\t")
        found.setdefault(name.split("#")[0], []).append(text.strip())
    return found


class Blobs:
    """Objects of a bare clone, read through one ``git cat-file``."""

    def __init__(self, mirrors: Path, repository: str) -> None:
        self._git = subprocess.Popen(
            ["git", "-C", str(mirrors / repository / "repo"), "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(self, blob: str) -> bytes:
        """The bytes of an object."""
        pipe_in, pipe_out = self._git.stdin, self._git.stdout
        assert pipe_in is not None and pipe_out is not None
        pipe_in.write(f"{blob}\n".encode())
        pipe_in.flush()
        size = int(pipe_out.readline().split()[2])
        data = pipe_out.read(size)
        pipe_out.read(1)
        return data


def view(image: Image.Image, number: int, rng: np.random.Generator) -> Image.Image:
    """SIDE x SIDE: the centre, as in evaluation (number 0), or a random crop, mirrored half of the time."""
    width, height = image.size
    if number == 0:
        factor = SIDE / min(width, height)
        size = (max(SIDE, round(width * factor)), max(SIDE, round(height * factor)))
        left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        return image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + SIDE, top + SIDE))
    side = min(width, height) * np.sqrt(rng.uniform(0.35, 1.0))
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    across, down = min(width, side * stretch), min(height, side / stretch)
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    box = (left, top, left + across, top + down)
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


@torch.inference_mode()
def stem_maps(mirrors: Path, out: Path, name: str, number: int, teacher: Any) -> Path:
    """Write a view of every photo of a set as stem maps (N, 49, 320) float16; a killed run goes on.

    ``<name>.json`` in the same folder has the paths of the photos.
    """
    target, partial = out / f"{name}_{number}.npy", out / f"{name}_{number}.part.npy"
    if target.exists():
        return target
    rows, done = listed(mirrors, name), partial.with_suffix(".done")
    (out / f"{name}.json").write_text(json.dumps([path for path, _ in rows]))
    shape = (len(rows), TOKENS, CHANNELS)
    at = int(done.read_text()) if done.exists() else 0
    maps = open_memmap(partial, "r+" if at else "w+", dtype=np.float16, shape=None if at else shape)
    blobs = Blobs(mirrors, SETS[name].repository)
    while at < len(rows):
        images = []
        for index, (_, blob) in enumerate(rows[at : at + BATCH], start=at):
            image = Image.open(io.BytesIO(blobs(blob)), formats=("JPEG", "PNG")).convert("RGB")
            images.append(np.asarray(view(image, number, np.random.default_rng([number, index]))))
        x = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() - 127) / 128
        y = teacher.blocks(teacher.bn1(teacher.conv_stem(x.contiguous(memory_format=torch.channels_last))))
        maps[at : at + len(images)] = y.flatten(2).transpose(1, 2).half().numpy()
        at += len(images)
        if at % (10 * BATCH) == 0:
            maps.flush()
            done.write_text(str(at))
            print(f"{name} view {number}: {at} of {len(rows)}", flush=True)
    maps.flush()
    partial.rename(target)
    done.unlink(missing_ok=True)
    return target
