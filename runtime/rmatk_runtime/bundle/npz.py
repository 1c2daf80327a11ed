"""Reading ``.npz`` files from outside: every size is checked before anything is decompressed.

``numpy.load`` trusts what an archive says of itself: a file of some kilobytes may ask for gigabytes, and a
damaged one fails with any of ten exceptions. Here an archive holds the arrays that the caller asks for, each
with the element type that the caller names, and everything else is a ``ValueError``.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from rmatk_runtime.arrays import Array

MOST_MEMBERS = 4096
_SPARE = 128 << 20  # bytes that any archive may hold once decompressed
_RATIO = 20  # beyond that, bytes per byte of the archive: more than photographs and drawings reach
_LONGEST_HEADER = 4096
_HEADER = re.compile(
    rb"\{'descr': '([<|>=][a-zA-Z]\d{0,6})', 'fortran_order': (True|False), "
    rb"'shape': \((\d{1,12}(?:, \d{1,12}){0,5})?,?\), \} *\n"
)
_BROKEN = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error),
    *(NotImplementedError, RuntimeError, OverflowError, MemoryError),
)


def read_npz(path: Path, kinds: Mapping[str, str]) -> dict[str, Array]:
    """The arrays of an archive by name.

    Args:
        path: the archive.
        kinds: for each array its NumPy element type (``<f4``, ``|u1``), or ``<U`` for texts of any length; a
            name that ends in ``*`` stands for all names that begin so.

    Raises:
        ValueError: no such archive, or one that does not hold these arrays alone.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path.stat().st_size)
            return {name: _read(archive, member, _kind(kinds, name)) for name, member in members.items()}
    except _BROKEN as error:
        raise ValueError(f"not a readable archive of arrays: {error or type(error).__name__}") from error


def texts(array: Array, longest: int) -> tuple[str, ...]:
    """The texts of a 1-D array of them, each printable and of at most ``longest`` characters."""
    if array.ndim != 1 or array.dtype.itemsize > 4 * longest:
        raise ValueError(f"expected a list of texts of at most {longest} characters, found {_about(array)}")
    codes = array.view(np.uint32)
    if np.any(codes > 0x10FFFF):
        raise ValueError("a text holds what is no character")
    found = tuple(str(text) for text in array)
    if strange := next((text for text in found if not text.isprintable()), None):
        raise ValueError(f"the text {strange[:40]!r} holds characters that cannot be printed")
    return found


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by array name, after a look at what they would take."""
    members = archive.infolist()
    declared = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or declared > _SPARE + _RATIO * size:
        raise ValueError(f"{len(members)} arrays of {declared} bytes in an archive of {size}: too large")
    named = {member.filename.removesuffix(".npy"): member for member in members}
    if len(named) != len(members):
        raise ValueError("two arrays have the same name")
    return named


def _kind(kinds: Mapping[str, str], name: str) -> str:
    for pattern, kind in kinds.items():
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return kind
    raise ValueError(f"holds an array {name[:40]!r} that does not belong there")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kind: str) -> Array:
    """One array; its header must promise the very bytes that the member holds."""
    with archive.open(member) as file:
        start = file.read(10)
        if len(start) != 10 or start[:8] != b"\x93NUMPY\x01\x00":
            raise ValueError(f"{member.filename!r} is not an array")
        length = int.from_bytes(start[8:], "little")
        header = _HEADER.fullmatch(file.read(min(length, _LONGEST_HEADER)))
        if header is None:
            raise ValueError(f"{member.filename!r} is described in a way that NumPy does not write")
        descr, order, sizes = header[1].decode(), header[2] == b"True", header[3]
        if descr != kind and not (kind == "<U" and re.fullmatch(r"<U\d+", descr)):
            raise ValueError(f"{member.filename!r} holds {descr}, not {kind}")
        dtype = np.dtype(descr)
        shape = tuple(int(part) for part in sizes.split(b", ")) if sizes else ()
        expected = prod(shape) * dtype.itemsize
        if dtype.itemsize == 0 or member.file_size - 10 - length != expected:
            raise ValueError(f"{member.filename!r} has another size than its shape {shape} asks for")
        data = file.read(expected + 1)
    if len(data) != expected:
        raise ValueError(f"{member.filename!r} ends early")
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if order else "C")


def _about(array: Array) -> str:
    return f"shape {array.shape} of {array.dtype}"
