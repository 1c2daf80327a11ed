"""Folders as file servers, operating systems and tools leave them: what is walked, and what is passed over.

Linked folders are followed. A folder is known by its device and inode, so that a link to a folder above ends
there and a folder that is reached twice counts once. Whatever is passed over is counted, for a note.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LEFTOVER = re.compile(
    r"@eadir|@tmp|@recycle|@recently-snapshot|#recycle|#snapshot|__macosx|\$recycle\.bin|recycler|recycled"
    r"|system volume information|lost\+found|lost\.dir|found\.\d{3}|__pycache__"
    r"|thumbs\.db.*|ehthumbs.*\.db|desktop\.ini|.*@synoeastream|icon\r",
    re.IGNORECASE,
)
_LISTED = 5


@dataclass
class PassedOver:
    """What walks did not read, each path once.

    ``leftovers``: hidden ones and those of systems and tools, with how many files are in such a folder.
    ``broken``: links to nothing. ``repeated``: links to folders that were read. ``closed``: no permission.
    """

    leftovers: dict[Path, int] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    repeated: set[Path] = field(default_factory=set)
    closed: set[Path] = field(default_factory=set)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind, none where there is nothing to say."""
        notes = []
        if self.leftovers:
            kinds = Counter("._*" if path.name.startswith("._") else path.name for path in self.leftovers)
            what = ", ".join(f"{count} {name}" for name, count in sorted(kinds.items()))
            inside = sum(self.leftovers.values())
            files = f", with {inside} files in these folders" if inside else ""
            notes.append(f"not read, hidden or left by systems and tools: {what}{files}")
        for paths, what in (
            (self.broken, "not read, links to nothing"),
            (self.repeated, "not read again, links to folders that were read already"),
            (self.closed, "not read, no permission"),
        ):
            if paths:
                notes.append(f"{what}: {len(paths)} ({_some(sorted(paths))})")
        return tuple(notes)


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by a system or tool."""
    return name.startswith(".") or _LEFTOVER.fullmatch(name) is not None


def subfolders(folder: Path, passed: PassedOver) -> list[Path]:
    """The folders in ``folder``, linked ones too, in no particular order."""
    return [path for path in _entries(folder, passed) if path.is_dir()]


def walk(folder: Path, passed: PassedOver) -> Iterator[Path]:
    """All files below ``folder``, through linked folders; each folder once, and none above ``folder``."""
    whole = folder.resolve()
    seen = {_identity(place) for place in (whole, *whole.parents)}
    stack = [folder]
    while stack:
        for path in _entries(stack.pop(), passed):
            if not path.is_dir():
                if path.is_file():
                    yield path
                continue
            own = _identity(path)
            if own in seen:
                passed.repeated.add(path)
            else:
                seen.add(own)
                stack.append(path)


def _entries(folder: Path, passed: PassedOver) -> list[Path]:
    """What is in a folder apart from leftovers and links to nothing, which are counted."""
    try:
        children = sorted(folder.iterdir())
    except PermissionError:
        passed.closed.add(folder)
        return []
    entries = []
    for path in children:
        if is_leftover(path.name):
            whole = path.is_dir() and not path.is_symlink()
            passed.leftovers[path] = sum(len(files) for _, _, files in os.walk(path)) if whole else 0
        elif path.is_symlink() and not path.exists():
            passed.broken.add(path)
        else:
            entries.append(path)
    return entries


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _some(paths: list[Path]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return ", ".join(map(str, paths[:_LISTED])) + more
