"""Text from outside made fit to be shown: what steers a terminal or breaks a line is written as an escape."""

from __future__ import annotations

import unicodedata

_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of surrogate pairs, separators of lines and paragraphs
_DIRECTION = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, keep: str = "") -> str:
    """``text`` with ``\\x1b``, ``\\n`` and the like in the place of control characters but those to ``keep``.

    Class names, file names and the words of other programs can hold anything. Marks of writing direction are
    escaped as well: they make a line read as another one.
    """
    if text.isprintable():  # almost always
        return text
    return "".join(character if _harmless(character, keep) else _escape(character) for character in text)


def _harmless(character: str, keep: str) -> bool:
    if character in keep:
        return True
    return unicodedata.category(character) not in _HIDDEN and character not in _DIRECTION


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
