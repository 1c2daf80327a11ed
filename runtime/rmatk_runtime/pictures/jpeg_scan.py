"""Damage in a JPEG's compressed data, of which decoders say nothing: they fill the rest with grey.

What is found: a marker that cannot stand there, restarts out of order, and a long run of zero bytes, as from
lost blocks, where zero bits do not stand for flat colour.
"""

from __future__ import annotations

import re

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_FOREIGN = re.compile(rb"\xff[\x01-\xc3\xc5-\xcb\xcd-\xcf\xd8\xde\xdf\xf0-\xfd]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_ZEROS = bytes(64)
_SCAN, _END, _TABLES = 0xDA, b"\xff\xd9", 0xC4
_SEQUENTIAL = (0xC0, 0xC1)
_TABLE_BYTES = 17  # class and destination, then how many codes there are of each length (B.2.4.2)


def damage(data: bytes) -> str | None:
    """What is wrong with the compressed data of a JPEG without metadata; None where nothing is seen."""
    place, sequential = 2, False
    flat: list[bool] = []
    while (marker := _MARKER.search(data, place)) is not None:
        code, start = marker[1][0], marker.end()
        place = start + int.from_bytes(data[start : start + 2], "big")
        if code == _SCAN:
            break
        sequential |= code in _SEQUENTIAL
        if code == _TABLES:
            flat += _zeros_end_blocks(data[start + 2 : place])
    if not sequential:  # of a progressive picture each scan only refines the ones before
        return None
    end = data.find(_END, place)
    scan = data[place : len(data) if end < 0 else end]
    if _FOREIGN.search(scan):
        return "its compressed data holds a marker that does not belong there"
    restarts = b"".join(_RESTART.findall(scan))
    if restarts != (bytes(range(0xD0, 0xD8)) * (len(restarts) // 8 + 1))[: len(restarts)]:
        return "its restart markers are out of order"
    if not all(flat) and _ZEROS in scan:
        return f"{len(_ZEROS)} and more bytes of its compressed data are zero"
    return None


def _zeros_end_blocks(tables: bytes) -> list[bool]:
    """Per table of AC coefficients, whether zero bits mean the end of a block: so where colour is flat."""
    place, found = 0, []
    while place + _TABLE_BYTES < len(tables):
        if tables[place] >> 4 == 1:
            found.append(tables[place + _TABLE_BYTES] == 0)
        place += _TABLE_BYTES + sum(tables[place + 1 : place + _TABLE_BYTES])
    return found
