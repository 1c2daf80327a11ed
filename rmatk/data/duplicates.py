"""Photos that are in two places: a test photo that was trained on measures memory, not recognition.

Two digests tell it. One is of the file; the other of the pixels that the network is shown, which stay the
same when a photo gets other metadata or is saved again without loss.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rmatk.data.photos import Dataset
from rmatk_runtime.arrays import UInt8

_LISTED = 5


class Fingerprints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hex digests of photos in one order: of the files, and of what the network is shown of them."""

    files: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()


def fingerprints(files: Sequence[Path], pixels: UInt8) -> Fingerprints:
    """Digests of n readable ``files`` and of their pixels (n, H, W, 3) at the network's size."""
    return Fingerprints(
        tuple(_digest(file.read_bytes()) for file in files), tuple(_digest(rows.tobytes()) for rows in pixels)
    )


def joined(parts: Sequence[Fingerprints]) -> Fingerprints:
    """The digests of several batches as one."""
    return Fingerprints(
        tuple(digest for part in parts for digest in part.files),
        tuple(digest for part in parts for digest in part.pixels),
    )


def seen_before(photos: Fingerprints, training: Fingerprints) -> tuple[list[int], list[int]]:
    """Numbers of photos that are also in training: byte for byte, and otherwise with the same pixels."""
    files, pixels = set(training.files), set(training.pixels)
    same = [number for number, digest in enumerate(photos.files) if digest in files]
    known = set(same)
    alike = [n for n, digest in enumerate(photos.pixels) if digest in pixels and n not in known]
    return same, alike


def trained_on(files: Sequence[Path], training: Fingerprints) -> int:
    """How many files are byte for byte among those that a run recorded."""
    known = set(training.files)
    return sum(_digest(file.read_bytes()) in known for file in files if known)


def equal_files(photos: Dataset, others: Sequence[Dataset]) -> list[Path]:
    """Photos that are byte for byte in one of ``others`` too; only files of equal size are read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for file in {file for other in others for file in other.flat()[0]}:
        if file.is_file():
            sizes[file.stat().st_size].append(file)
    digests: dict[int, set[str]] = {}
    found = []
    for file in photos.flat()[0]:
        size = file.stat().st_size if file.is_file() else -1
        if size in sizes:
            if size not in digests:
                digests[size] = {_digest(other.read_bytes()) for other in sizes[size]}
            if _digest(file.read_bytes()) in digests[size]:
                found.append(file)
    return found


def repeated_notes(
    files: Sequence[Path], labels: Sequence[int], own: Fingerprints, training: int
) -> tuple[str, ...]:
    """Notes on pictures that a set holds twice: in training and validation, or under two classes.

    Args:
        files: the training photos, then the validation photos.
        labels: the class index of each.
        own: their digests.
        training: how many are trained on.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, digest in enumerate(own.pixels):
        groups[digest].append(number)
    twice = [group for group in groups.values() if len(group) > 1]
    kinds = {
        "are in training and in validation": [g for g in twice if g[0] < training <= g[-1]],
        "are in two classes": [g for g in twice if len({labels[number] for number in g}) > 1],
    }
    notes = []
    for what, found in kinds.items():
        if found:
            shown = "; ".join(" and ".join(str(files[n]) for n in (g[0], g[-1])) for g in found[:_LISTED])
            notes.append(f"{len(found)} pictures {what}, with the same pixels: {shown}")
    return tuple(notes)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
