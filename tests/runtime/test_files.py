"""Files are whole or absent, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path

import pytest

from rmatk_runtime import files
from rmatk_runtime.errors import BundleError, StorageError
from rmatk_runtime.files import inside, locked, replacing_folder, sha256_file, write_atomic


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_write_replaces_and_leaves_no_other_file(tmp_path: Path):
    for data in (b"old", b"new"):
        write_atomic(tmp_path / "sub" / "file.bin", data)
    assert (tmp_path / "sub" / "file.bin").read_bytes() == b"new"
    assert names(tmp_path / "sub") == {"file.bin"}


def test_bytes_are_on_the_disk_before_the_name_and_the_name_after_it(tmp_path: Path, monkeypatch):
    path, flushed = tmp_path / "file.bin", []
    monkeypatch.setattr(files, "_flush", lambda each: flushed.append((each.suffix, path.exists())))
    write_atomic(path, b"data")
    assert flushed == [(".bin", False), (tmp_path.suffix, True)]
    flushed.clear()
    path = tmp_path / "folder"
    with replacing_folder(path, marker="mark") as partial:
        (partial / "mark.txt").write_text("whole")
    assert flushed[0] == (".txt", False) and flushed[-1] == (tmp_path.suffix, True)


def test_a_read_only_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where Linux answers EROFS to removing a file that was never made."""

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match="cannot write .*labels.npz: Read-only file system"):
        write_atomic(tmp_path / "labels.npz", b"data")


def test_full_disk_keeps_the_old_file_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_atomic(tmp_path / "file.bin", b"old")

    def half_then_full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half_then_full)
    with pytest.raises(StorageError, match=r"disk full while writing .*file\.bin") as caught:
        write_atomic(tmp_path / "file.bin", b"new and longer")
    assert caught.value.hint is not None
    assert (tmp_path / "file.bin").read_bytes() == b"old"
    assert names(tmp_path) == {"file.bin"}


def test_folder_appears_whole_or_not_at_all(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "out", marker="mark") as partial:
        (partial / "mark").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == set()
    for text in ("first", "second"):
        with replacing_folder(tmp_path / "out", marker="mark") as partial:
            (partial / "mark").write_text(text)
            assert not (tmp_path / "out" / "mark").exists() or text == "second"
    assert (tmp_path / "out" / "mark").read_text() == "second"
    assert names(tmp_path) == {"out"}


def test_failure_keeps_the_old_folder(tmp_path: Path):
    with replacing_folder(tmp_path / "out", marker="mark") as partial:
        (partial / "mark").write_text("old")
    with pytest.raises(ValueError, match="stop"), replacing_folder(tmp_path / "out", marker="mark"):
        raise ValueError("stop")
    assert (tmp_path / "out" / "mark").read_text() == "old"
    assert names(tmp_path) == {"out"}


def test_other_peoples_files_are_never_replaced(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for target in ("photos", "file"):
        with pytest.raises(StorageError, match=target), replacing_folder(tmp_path / target, marker="mark"):
            pytest.fail("the folder must not be opened")
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "precious"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a\\b", "a\0b", "."])
def test_names_cannot_leave_their_folder(tmp_path: Path, name: str):
    with pytest.raises(BundleError, match="not allowed"):
        inside(tmp_path, name)


def test_names_inside_are_kept(tmp_path: Path):
    assert inside(tmp_path, "engines/a.engine") == tmp_path / "engines" / "a.engine"


def test_digest(tmp_path: Path):
    data = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_locked_folder_is_held_against_other_threads(tmp_path: Path):
    order = []

    def second() -> None:
        with locked(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and not names(tmp_path)
    with pytest.raises(StorageError, match="No such file"), locked(tmp_path / "absent"):
        pass
