"""Protocol buffers of a file: fields by number, checked against a list of those that may be there.

The encoding: protobuf.dev/programming-guides/encoding. Nothing is copied; inner messages are views.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_TEXT = 4096

Message = Mapping[int, list[Any]]


@dataclass(frozen=True)
class Fields:
    """The fields that a message may hold, each with its wire type.

    ``many``: those that may come more than once. ``packed``: numbers that may also come packed as bytes.
    """

    types: Mapping[int, int]
    many: Collection[int] = ()
    packed: Collection[int] = ()

    def read(self, view: memoryview | bytes, where: str) -> Message:
        """The values of each field: int, or a view of the bytes.

        Raises:
            ValueError: ends early, holds other fields, or one of them twice; says it of ``where``.
        """
        found: dict[int, list[Any]] = {key: [] for key in self.types}
        for key, wire, value in _walk(view, where):
            if key not in found or not (wire == self.types[key] or (key in self.packed and wire == _BYTES)):
                raise ValueError(f"{where} holds a field {key} that rmatk does not write")
            if found[key] and key not in self.many:
                raise ValueError(f"{where} holds a field {key} twice")
            found[key].append(value)
        return found


def _walk(view: memoryview | bytes, where: str) -> Iterator[tuple[int, int, Any]]:
    place, end = 0, len(view)
    while place < end:
        value: Any
        tag, place = _varint(view, place, where)
        wire = tag & 7
        if wire == _VARINT:
            value, place = _varint(view, place, where)
        else:
            if wire == _BYTES:
                length, place = _varint(view, place, where)
            elif wire in _WIDTHS:
                length = _WIDTHS[wire]
            else:
                raise ValueError(f"{where} is not a protobuf message")
            if length > end - place:
                raise ValueError(f"{where} ends early")
            value = view[place : place + length]
            if wire in _WIDTHS:
                value = int.from_bytes(value, "little")
            place += length
        yield tag >> 3, wire, value


def _varint(view: memoryview | bytes, place: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(view):
            raise ValueError(f"{where} ends early")
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError(f"{where} holds a number without end")


def number(values: Sequence[Any]) -> int:
    """The number of a field that is there at most once; 0 where it is not."""
    return int(values[0]) if values else 0


def numbers(values: Sequence[Any]) -> list[int]:
    """The numbers of a repeated field, packed or not."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        place = 0
        while place < len(value):
            single, place = _varint(value, place, "a list of numbers")
            found.append(single)
    return found


def text(values: Sequence[Any]) -> str:
    """The text of a field that is there at most once; empty where it is not."""
    if not values:
        return ""
    if len(values[0]) > _LONGEST_TEXT:
        raise ValueError(f"a name of {len(values[0])} bytes")
    return bytes(values[0]).decode()
