"""Files that appear complete or not at all: atomic writes, digests, names that stay inside their folder.

Every artefact of the toolkit goes through here, so that a power cut, a full disk or Ctrl-C leaves either
the old file or the new one, never half of one.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePath

from rmatk_runtime.errors import BundleError, StorageError, naming_storage_errors
from rmatk_runtime.leftovers import held, old_name, remove_leftovers, temporary_file, temporary_folder

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux' renameat2

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how Python holds such a byte of a name (PEP 383)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in bounded memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` through a temporary name in the same folder.

    Raises:
        StorageError: disk full, no permission.
    """
    with replacing(path) as partial, naming_storage_errors(path):
        partial.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; on success it takes ``path``'s place, on failure it is removed.

    What killed processes left in the folder is removed first, once per process.

    Raises:
        StorageError: disk full, no permission.
    """
    with ExitStack() as stack:
        with naming_storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _clean_once(path.parent.resolve())
            partial = stack.enter_context(temporary_file(path))
        try:
            yield partial
            with naming_storage_errors(path):
                _flush(partial)
                partial.replace(path)
                _flush(path.parent)
        finally:
            # A read-only disk refuses even to remove what is not there; the first error is the one to tell.
            with suppress(OSError):
                partial.unlink()


@lru_cache(maxsize=1024)
def _clean_once(folder: Path) -> None:
    remove_leftovers(folder)


@contextmanager
def replacing_folder(path: Path, *, marker: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it takes ``path``'s place as a whole.

    An existing ``path`` is replaced only where it is empty or holds ``marker`` (a file every folder of this
    kind has), so that ``-o`` pointed at someone's photographs never deletes them. What killed processes left
    beside ``path`` is removed first.

    Raises:
        StorageError: ``path`` holds something else, the disk is full, no permission.
    """
    remove_leftovers(path.parent)
    check_replaceable(path, marker=marker)
    with ExitStack() as stack:
        with naming_storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = stack.enter_context(temporary_folder(path))
        try:
            yield partial
            with naming_storage_errors(path):
                for file in sorted(partial.rglob("*"), reverse=True):
                    _flush(file)
                _flush(partial)
                _put_in_place(partial, path)
                _flush(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, path: Path) -> None:
    """Let a folder take the place of another, in one step where the file system can."""
    if not path.exists():
        partial.replace(path)
    elif not _exchange(partial, path):  # otherwise, what was there now has the temporary name
        old = old_name(path)
        with held(path):
            path.replace(old)
            try:
                partial.replace(path)
            except BaseException:
                old.replace(path)
                raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths exchange their names atomically; False where this system or disk cannot (Linux 3.15)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again: ``$XDG_CACHE_HOME/rmatk``."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path("~/.cache").expanduser()) / "rmatk"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against all others, processes and threads, that change it under this lock.

    It ends with the process, so that none is left behind by a crash. Readers do not need it.

    Raises:
        StorageError: no such folder, or a file system without locks.
    """
    with naming_storage_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with naming_storage_errors(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        remove_leftovers(folder)
        yield
    finally:
        os.close(descriptor)


def check_replaceable(path: Path, *, marker: str) -> None:
    """Refuse a target that :func:`replacing_folder` would refuse, before any work is done for it.

    Raises:
        StorageError: ``path`` holds something else.
    """
    if path.is_symlink() or path.is_file():
        raise StorageError(f"{path} exists and is not a folder", "choose another folder")
    if path.is_dir() and any(path.iterdir()) and not (path / marker).is_file():
        raise StorageError(
            f"{path} exists and holds other files (no {marker} in it)", "choose another folder"
        )


def path_text(path: str | PurePath) -> str:
    """A path as text that can be printed and encoded: bytes that are not UTF-8 are shown as ``\\xff``."""
    text = _NOT_UTF8.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", str(path))
    return text.encode("utf-8", "backslashreplace").decode()


def path_from_text(path: Path) -> Path:
    """The file that :func:`path_text` showed as ``path``, its bytes restored where no file has that name."""
    if "\\x" not in str(path) or path.exists():
        return path
    return Path(re.sub(r"\\x([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), str(path)))


def inside(root: Path, name: str) -> Path:
    """``root / name``, refusing names (read from a file) that would leave ``root``.

    Raises:
        BundleError: absolute names, ``..`` or backslashes.
    """
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise BundleError(f"{root}: the file name {name!r} is not allowed", "export the bundle again")
    return contained(root, root.joinpath(*parts))


def contained(root: Path, path: Path) -> Path:
    """``path`` below ``root``, refused where symbolic links lead out of ``root``.

    Raises:
        BundleError: it leads out of the folder.
    """
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise BundleError(
            f"{path} is a link to {real}, outside the folder", "copy the file itself: cp -L, rsync -L"
        )
    return path


def _flush(path: Path) -> None:
    """Ask the disk to keep a file's bytes or a folder's names (power cuts on devices are common)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
