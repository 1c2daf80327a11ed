"""Saves pictures from the live view into class folders that ``rmatk train`` accepts."""

from __future__ import annotations

import hashlib
import shutil
from datetime import datetime, timezone
from pathlib import Path

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import StorageError, naming_storage_errors
from rmatk_runtime.files import write_atomic
from rmatk_runtime.labels.editor import clean_name
from rmatk_runtime.sinks.jpeg import encode_jpeg

LEAST_FREE = 512 << 20
"""Bytes that a snapshot leaves free: the device has other things to write."""


class Snapshots:
    """The folder ``root`` with one subfolder per label."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with naming_storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)

    def save(self, image: UInt8, label: str) -> Path:
        """Write a picture (H, W, 3) uint8 RGB, whole or not at all -> its path below ``root``.

        Raises:
            LabelError: a label that is empty, too long or unprintable.
            StorageError: less than :data:`LEAST_FREE` left, no permission.
        """
        folder = self.root / folder_name(label)
        if (free := shutil.disk_usage(self.root).free) < LEAST_FREE:
            raise StorageError(
                f"only {free >> 20} MB are free at {self.root}; snapshots leave {LEAST_FREE >> 20} MB",
                "free some space, or start with another --snapshots DIR",
            )
        taken = datetime.now(timezone.utc)
        path = folder / f"{taken:%Y%m%dT%H%M%S.%fZ}.jpg"
        write_atomic(path, encode_jpeg(image, quality=95))
        return path.relative_to(self.root)

    def counts(self) -> dict[str, int]:
        """Pictures per class name, as training will read the folders."""
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        found = {folder.name.replace("_", " "): len(list(folder.glob("*.jpg"))) for folder in folders}
        return {name: count for name, count in found.items() if count}


def folder_name(label: str) -> str:
    """A folder name for a label: training reads ``_`` as a space; what no folder can hold becomes ``-``.

    Two labels never share a folder: one that had to be changed gets a few digits of its digest.
    """
    label = clean_name(label)
    safe = "".join(c if c.isalnum() or c in "-.," else "_" if c == " " else "-" for c in label).lstrip(".-")
    if safe != label.replace(" ", "_") or len(safe.encode()) > 200:
        digest = hashlib.sha256(label.encode()).hexdigest()[:6]
        safe = f"{safe.encode()[:200].decode(errors='ignore')}_{digest}".lstrip("_")
    return safe
