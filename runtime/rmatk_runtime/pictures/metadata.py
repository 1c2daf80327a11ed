"""Metadata is taken off a picture before it is decoded, so that a fault in it cannot cost the picture.

Decoders fail on EXIF, XMP, ICC profiles and texts that are truncated, oversized or of odd types
(python-pillow/Pillow #8965). All that rmatk needs of them is the orientation.
"""

from __future__ import annotations

import re
import struct

_ORIENTATION, _PREVIEW = 0x0112, 0x0201
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # TIFF 6.0, section 2: BYTE, SHORT, LONG
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
# Segments that hold pixels or say how to read them; of the application segments JFIF's and Adobe's
_JPEG_APP_KEPT = (0xE0, 0xEE)
_JPEG_SCAN, _JPEG_END, _JPEG_COMMENT = 0xDA, 0xD9, 0xFE
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


class Exif:
    """The integers in an EXIF block; what is cut off or malformed is not there."""

    def __init__(self, data: bytes) -> None:
        self._data = data.removeprefix(EXIF)
        self._order = {b"II*\0": "<", b"MM\0*": ">"}.get(self._data[:4], "")

    @property
    def orientation(self) -> int:
        """1 to 8; 1 where it is absent or unknown."""
        found = self._integers(self._first()).get(_ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1

    @property
    def preview(self) -> int:
        """Where the embedded preview begins, from the start of the TIFF header; 0 without one."""
        first = self._first()
        second = first + 2 + 12 * self._number("H", first) if first else 0
        entries = self._integers(self._number("I", second) if second else 0)
        return entries.get(_PREVIEW, 0)

    def _first(self) -> int:
        """The offset of the first directory, 0 without one."""
        return self._number("I", 4) if self._order else 0

    def _number(self, kind: str, offset: int) -> int:
        try:
            return int(struct.unpack_from(self._order + kind, self._data, offset)[0])
        except struct.error:
            return 0

    def _integers(self, directory: int) -> dict[int, int]:
        """Tag -> value of the single integers in the directory at this offset."""
        found: dict[int, int] = {}
        for number in range(self._number("H", directory) if directory else 0):
            entry = directory + 2 + 12 * number
            if entry + 12 > len(self._data):
                break
            kind = _INTEGERS.get(self._number("H", entry + 2))
            if kind is not None and self._number("I", entry + 4) == 1:
                found.setdefault(self._number("H", entry), self._number(kind, entry + 8))
        return found


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """EXIF's orientation, 1 to 8; XMP's where EXIF says nothing."""
    turned = Exif(exif).orientation
    if turned == 1 and (found := _XMP_ORIENTATION.search(xmp)):
        return int(found[1])
    return turned


def bare_jpeg(data: bytes) -> tuple[bytes, int]:
    """A JPEG without its metadata, previews and index of further pictures; and its orientation.

    Bytes between segments are passed over, as decoders do.
    """
    kept, exif, xmp = [data[:2]], b"", b""
    place = 2
    while (marker := _JPEG_MARKER.search(data, place)) is not None:
        code, start = marker[1][0], marker.end()
        place = start if code in _JPEG_ALONE else start + int.from_bytes(data[start : start + 2], "big")
        if code in (_JPEG_SCAN, _JPEG_END):
            return b"".join([*kept, data[marker.start() :]]), orientation(exif, xmp)
        payload = data[start + 2 : place]
        if code == 0xE1 and payload.startswith(EXIF):
            exif = exif or payload
        elif code == 0xE1 and payload.startswith(XMP):
            xmp = xmp or payload
        if code in _JPEG_APP_KEPT or not (0xE0 <= code <= 0xEF or code == _JPEG_COMMENT):
            kept.append(b"\xff" + data[start - 1 : place])
    return b"".join(kept), orientation(exif, xmp)  # no picture: the decoder says what is missing


def bare_png(data: bytes) -> tuple[bytes, int]:
    """A PNG's pixels alone, of an animation its default picture, and its orientation."""
    kept, exif, texts = [data[:8]], b"", b""
    place = 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        name, end = data[place + 4 : place + 8], place + 12 + length
        if name in _PNG_KEPT:
            kept.append(data[place:end])
        elif name == b"eXIf":
            exif = data[place + 8 : end - 4]
        elif name == b"iTXt":
            texts += data[place + 8 : end - 4]
        if name == b"IEND":
            break
        place = end
    return b"".join(kept), orientation(exif, texts)


def bare_avif(data: bytes) -> bytes:
    """An AVIF whose EXIF is no longer found; its orientation is said outside of it (``irot``, ``imir``)."""
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"meta":
            meta = data[place : place + size].replace(b"Exif", b"none")
            return data[:place] + meta + data[place + size :]
        if size < 8:
            break
        place += size
    return data
