"""The commands that tools/chaos.py kills: how each starts, what it must never leave, and what it is for."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """A command under test.

    ``prepare``: brings the folder to where the command starts; ``whole``: raises where something in it cannot
    be used; ``result``: what the command is for, to compare.
    """

    name: str
    words: tuple[str, ...]
    prepare: Callable[[Path], object]
    whole: Callable[[Path], object]
    result: Callable[[Path], object]


def parts(folder: Path) -> list[Part]:
    """The commands, in the order in which each finds what the one before made."""
    from rmatk.run import load_run
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.files import sha256_file
    from rmatk_runtime.labels.editor import set_labels

    photos, made, bundle, out = folder.parent / "photos", folder / "run", folder / "bundle", folder / "out"
    labels = folder.parent / "labels.txt"
    labels.write_text("blue dot\nred stripe\ngreen check\n")

    def graphs(path: Path) -> object:
        return sorted((name, entry.sha256) for name, entry in Bundle.open(path).manifest.files.items()
                      if name.endswith((".onnx", ".npz")))  # fmt: skip

    return [
        Part(
            "train",
            ("train", str(photos), "-o", str(made), "--shots", "4", "--epochs", "2", "--rank", "4",
             "--checkpoint-every", "0"),
            lambda at: _remove(at / "run", at / ".run.partial"),
            lambda at: not (at / "run").exists() or load_run(at / "run"),
            lambda at: sha256_file(at / "run" / "adapter.safetensors"),
        ),
        Part(
            "export",
            ("export", str(made), "-o", str(bundle), "--golden", "4"),
            lambda at: None,
            lambda at: not (at / "bundle").exists() or Bundle.open(at / "bundle").golden(),
            lambda at: graphs(at / "bundle"),
        ),
        Part(
            "labels",
            ("labels", str(bundle), "set", str(labels)),
            lambda at: set_labels(at / "bundle", [("blue dot", ()), ("red stripe", ())]),
            lambda at: Bundle.open(at / "bundle").classes(),
            lambda at: Bundle.open(at / "bundle").classes().names,
        ),
        Part(
            "infer",
            ("infer", str(bundle), str(photos), "--backend", "cpu", "--jsonl", str(out / "r.jsonl"), "--csv",
             str(out / "r.csv"), "--images", str(out / "images"), "--video", str(out / "v.mp4")),
            lambda at: _remove(at / "out"),
            _outputs,
            _answers,
        ),
    ]  # fmt: skip


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _outputs(folder: Path) -> None:
    """Every output that is there can be read to its end."""
    import av
    from PIL import Image

    out = folder / "out"
    if (out / "r.jsonl").exists():
        for line in (out / "r.jsonl").read_text().splitlines():
            json.loads(line)
    if (out / "r.csv").exists():
        rows = list(csv.reader((out / "r.csv").read_text().splitlines()))
        assert len({len(row) for row in rows}) <= 1, "a row of the table has another length"
    for path in (out / "images").glob("[!.]*.jpg"):  # a temporary file is a leftover, not an output
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            image.load()
    if (out / "v.mp4").exists():
        with av.open(str(out / "v.mp4")) as video:
            assert sum(1 for _ in video.decode(video=0)) > 0


def _answers(folder: Path) -> object:
    """The labels of the photos, as the last run wrote them."""
    lines = [json.loads(line) for line in (folder / "out" / "r.jsonl").read_text().splitlines()]
    found = {line["source"]: line.get("label") for line in lines}
    return sorted(found.items(), key=str)


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders."""
    names = (str(path.relative_to(folder)) for path in folder.rglob(".*"))
    return [name for name in names if ".partial" in name or ".old-" in name]
