"""JPEGs cut out of a stream of bytes by their markers (ITU T.81, annex B).

Segments are passed over by their length, so that previews in metadata are no pictures of their own. Nor are
the further pictures of a file (gain maps, the second view of MPO) whose sizes its index or XMP states. A
picture that is cut short does not take the next one with it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from rmatk_runtime.pictures.metadata import EXIF, XMP, Exif

BEGINS = b"\xff\xd8\xff"
# In compressed data, a marker is 0xFF before anything but 0x00, which stands for the byte 0xFF, before a
# restart (0xD0 to 0xD7) and before 0xFF, which fills (B.1.1)
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)
_BEGIN, _END, _SCAN = 0xD8, 0xD9, 0xDA
# What may stand between two scans, with the most bytes that it has there; all else is damage
_BETWEEN_SCANS = {0xC4: 4096, 0xCC: 512, 0xDA: 20, 0xDB: 1024, 0xDC: 4, 0xDD: 4}
_APPLICATION = range(0xE0, 0xF0)
_INDEX = b"MPF\0"  # CIPA DC-007, Multi-Picture Format
_ENTRIES = 0xB002
_ITEM_BYTES = re.compile(rb"Item:Length=[\"'](\d{1,9})[\"']")
_PADDING = 4096  # bytes after a picture that its entry in an index may count


class JpegSplitter:
    """Takes bytes as they come; ``passed``: how many since a picture ended or was given up."""

    def __init__(self) -> None:
        self.passed = 0
        self._data = bytearray()
        self._claimed: list[int] = []  # bytes of the pictures that belong to the last one
        self._reset()

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """Yield pictures, each as soon as its last byte is there; None for one that is cut short."""
        self._data += chunk
        self.passed += len(chunk)
        while self._begin() and (end := self._walk()) is not None:
            yield from self._take(*end)

    def end(self) -> Iterator[bytes | None]:
        """Yield what is left when no more bytes come."""
        while self._begin():
            yield from self._take(*(self._walk() or (False, self._restart() or len(self._data))))

    def _reset(self) -> None:
        self._place = 0  # up to where the picture at the start of the data is known; 0: none has begun
        self._compressed = self._loose = False  # what stands there: compressed data, or bytes out of place
        self._segment = (0, 0)  # start and end of the last one
        self._preview = 0  # where the preview within it begins

    def _begin(self) -> bool:
        """Whether a picture stands at the start of the data."""
        if not self._place:
            start = self._data.find(BEGINS)
            del self._data[: start if start >= 0 else max(0, len(self._data) - 2)]
            self._place = 2 if start >= 0 else 0
        return self._place > 0

    def _walk(self) -> tuple[bool, int] | None:
        """Go on to the picture's end: whether it is whole, and the place; None: more bytes are needed."""
        data = self._data
        while True:
            if not (self._compressed or self._loose) and self._place < len(data):
                self._loose = data[self._place] != 0xFF
                if self._loose and (restart := self._restart()):
                    return False, restart
            marker = _MARKER.search(data, self._place)
            if marker is None:
                self._place = max(self._place, len(data) - 1)  # a marker may be cut in two
                return None
            code, start = marker[1][0], marker.end()
            if code in (_BEGIN, _END):
                return (True, start) if code == _END else (False, start - 2)
            length = int.from_bytes(data[start : start + 2], "big") if len(data) >= start + 2 else 2
            if self._compressed and length > _BETWEEN_SCANS.get(code, 0):
                self._place = start
                continue
            self._segment = (start, start + length)
            if len(data) < start + length:
                self._place = marker.start()
                return None
            if code in _APPLICATION:
                self._note(bytes(data[start + 2 : start + length]), start + 2)
            if restart := self._restart(previews=code in _APPLICATION):
                return False, restart
            self._place, self._loose = max(start, start + length), False
            self._compressed = code == _SCAN

    def _restart(self, *, previews: bool = False) -> int:
        """Where another picture begins within the last segment, which was then cut short; 0: nowhere.

        ``previews``: pictures that end within the segment are previews.
        """
        start, end = self._segment
        while (start := self._data.find(BEGINS, start, end + 2)) >= 0:
            if self._reaches(start, end) or not (previews or start == self._preview):
                return start
            start += 2
        return 0

    def _reaches(self, start: int, end: int) -> bool:
        """Whether the picture that begins at ``start`` goes on beyond ``end``."""
        data, place = self._data, start + 2
        while place < end:
            if data[place] != 0xFF:
                return False
            if data[place + 1] == _SCAN:
                return data.find(b"\xff\xd9", place, end) < 0
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        return True

    def _take(self, whole: bool, end: int) -> Iterator[bytes | None]:
        """The picture up to ``end``, unless it belongs to the one before it."""
        if self._belongs(end) and whole:
            pass
        else:
            yield bytes(self._data[:end]) if whole else None
        del self._data[:end]
        self.passed = 0
        self._reset()

    def _belongs(self, size: int) -> bool:
        """Whether the last picture states a further one of this size."""
        found = [claimed for claimed in self._claimed if 0 <= claimed - size <= _PADDING]
        if found:
            self._claimed.remove(min(found))
        return bool(found)

    def _note(self, payload: bytes, at: int) -> None:
        """Learn of previews and further pictures from an application segment at ``at``."""
        if payload.startswith(EXIF):
            self._preview = at + len(EXIF) + Exif(payload).preview
        elif payload.startswith(_INDEX):
            self._claimed = index_sizes(payload.removeprefix(_INDEX))
        elif payload.startswith(XMP) and (sizes := _ITEM_BYTES.findall(payload)):
            self._claimed = self._claimed or [int(size) for size in sizes]


def index_sizes(data: bytes) -> list[int]:
    """Bytes of each picture but the first, by the index of a multi-picture file; none where it is broken."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return []
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, size, place = struct.unpack_from(order + "HHII", data, entry)
            if tag == _ENTRIES:
                starts = range(place + 16, min(place + size, len(data) - 15), 16)
                return [struct.unpack_from(order + "I", data, start + 4)[0] for start in starts]
    except struct.error:
        pass
    return []
