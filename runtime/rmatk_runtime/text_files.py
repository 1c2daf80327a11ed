"""Text files as editors, spreadsheets and shells of any system write them.

Windows' Notepad and Excel put a byte-order mark in front of UTF-8, PowerShell's ``>`` writes UTF-16: both are
read for what they are.
"""

from __future__ import annotations

import codecs
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes) -> str:
    """Bytes of a text file as text without a byte-order mark; UTF-8 where there is none.

    Raises:
        ValueError: neither; the message gives the line.
    """
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: len(mark) + error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line} is not text in {encoding.upper()} (byte {data[len(mark) + error.start]:#04x}): "
            "save it as UTF-8"
        ) from None


def read_text(path: Path) -> str:
    """The text of a file; see :func:`decode_text`. Raises ValueError, OSError."""
    return decode_text(path.read_bytes())
