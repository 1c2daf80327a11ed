"""Temporary files of killed processes are removed by the next writer, those of living ones never."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rmatk_runtime import files
from rmatk_runtime.files import locked, replacing, replacing_folder, write_atomic
from rmatk_runtime.leftovers import remove_leftovers, temporary_file

PROGRAM = """
import sys, time
from pathlib import Path
from rmatk_runtime.files import replacing, replacing_folder
target = Path(sys.argv[2])
with (replacing(target) if sys.argv[1] == "file" else replacing_folder(target, marker="mark")) as partial:
    print(partial, flush=True)
    time.sleep(60)
"""


def writer(kind: str, target: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process in the middle of writing, and its temporary path."""
    arguments = [sys.executable, "-c", PROGRAM, kind, str(target)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.fixture(autouse=True)
def new_process() -> None:
    """As the next command would: no folder has been looked at."""
    files._clean_once.cache_clear()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path, kind: str):
    process, partial = writer(kind, tmp_path / "out")
    if kind == "folder":
        (partial / "deep").mkdir()
        (partial / "deep" / "file").write_text("half")
    try:
        write_atomic(tmp_path / "other", b"x")
        assert partial.exists(), "the process lives"
        files._clean_once.cache_clear()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert partial.exists()
        with (
            replacing(tmp_path / "out") if kind == "file" else replacing_folder(tmp_path / "out", marker="m")
        ):
            assert not partial.exists()
    finally:
        process.kill()
        process.wait()


def test_a_label_edit_cleans_the_bundle(tmp_path: Path):
    (tmp_path / ".manifest.partial-0123abcd.json").write_text("half")
    (tmp_path / ".manifest.partial-mine.json").write_text("somebody's own")
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".manifest.partial-mine.json"]


def test_a_replaced_folder_whose_successor_never_came_is_back(tmp_path: Path):
    (tmp_path / ".out.old-0123abcd").mkdir()
    (tmp_path / ".out.old-0123abcd" / "mark").write_text("old")
    remove_leftovers(tmp_path)
    assert (tmp_path / "out" / "mark").read_text() == "old"
    (tmp_path / ".out.old-0123abcd").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_path_removed_before_it_was_held_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Path] = []
    touch = Path.touch

    def stolen(path: Path, *arguments: object, **options: object) -> None:
        touch(path)
        made.append(path)
        if len(made) == 1:
            remove_leftovers(tmp_path)

    monkeypatch.setattr(Path, "touch", stolen)
    with temporary_file(tmp_path / "out") as partial:
        assert len(made) == 2 and partial == made[1] and partial.exists()


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch, exchange: bool):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for text in ("first", "second"):
        with replacing_folder(tmp_path / "out", marker="mark") as partial:
            (partial / "mark").write_text(text)
        assert (tmp_path / "out" / "mark").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_with_such_a_name_is_left_alone(tmp_path: Path):
    (tmp_path / "precious").mkdir()
    (tmp_path / ".out.partial-0123abcd").symlink_to(tmp_path / "precious")
    remove_leftovers(tmp_path)
    assert (tmp_path / "precious").exists()
