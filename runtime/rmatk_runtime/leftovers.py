"""Temporary files and folders, and the removal of those that killed processes left.

A process holds a lock (flock) on each temporary path while it fills it. The kernel releases the lock when the
process ends, however it ends and in whichever container it ran. So a path with such a name and without a lock
is a leftover. A process number in the name would not do: another container or boot uses the same numbers.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = re.compile(r"\.(?P<target>.+)\.(?P<kind>partial|old)-[0-9a-f]{8}(\.[^.]+)?")


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """A new, empty file beside ``path``, held until the end of the context. Raises OSError."""
    with _claimed(path, path.stem, path.suffix, folder=False) as partial:
        yield partial


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A new, empty folder beside ``path``, held until the end of the context. Raises OSError."""
    with _claimed(path, path.name, "", folder=True) as partial:
        yield partial


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file or folder, if no other process does; gives whether it is held. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
    finally:
        os.close(descriptor)


def old_name(path: Path) -> Path:
    """The name that an existing folder takes while another takes its place."""
    return path.with_name(f".{path.name}.old-{secrets.token_hex(4)}")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in ``folder`` that no process holds, as far as possible.

    A folder that was renamed to make place for another, which never came, gets its name back.
    """
    with suppress(
        OSError
    ):  # a disk that is read-only, or a folder of somebody else: nothing is written there
        for path in [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]:
            with suppress(OSError), held(path) as free:
                if free:
                    _remove(path)


def _remove(path: Path) -> None:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    target = path.with_name(match["target"])
    if match["kind"] == "old" and not target.exists():
        path.replace(target)
        log.warning("%s is back: the process that was to replace it was killed", target)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _claimed(path: Path, stem: str, suffix: str, *, folder: bool) -> Iterator[Path]:
    """Create a temporary path and hold it; again, if another process removed it before it was held."""
    while True:
        partial = path.with_name(f".{stem}.partial-{secrets.token_hex(4)}{suffix}")
        if folder:
            partial.mkdir()
        else:
            partial.touch(exist_ok=False)
        with suppress(FileNotFoundError):
            descriptor = os.open(partial, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: then nothing is ever taken for a leftover
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if partial.exists():
                break
            os.close(descriptor)
    try:
        yield partial
    finally:
        os.close(descriptor)
