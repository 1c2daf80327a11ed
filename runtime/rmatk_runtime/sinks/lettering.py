"""Fonts for the labels on pictures: one that comes with the package, and for other scripts the system's.

Pillow's own font (Aileron, cut down to ASCII and a few signs) draws the same box for every letter that it
lacks. DejaVu Sans, which comes with this package, has the Latin, Greek, Cyrillic, Hebrew and Arabic letters.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

log = logging.getLogger(__name__)

OWN = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
_NO_CHARACTER = "\U0010ffff"  # which no font has: drawn as every missing letter is
_SECONDS = 10.0


def lettering(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """``text`` and a font of ``size`` pixels that can draw it.

    Where no font has some of its letters, they come as escapes (``\\u4e2d``), and a line in the log tells
    once which are missing.
    """
    path, missing = _choose(text)
    drawn = "".join(c.encode("unicode_escape").decode() if c in missing else c for c in text)
    return drawn, _font(path, size)


@lru_cache(maxsize=4096)
def _choose(text: str) -> tuple[Path, frozenset[str]]:
    """The font for a text, and the letters that neither this one nor any other has."""
    missing = _missing(OWN, text)
    if not missing:
        return OWN, missing
    candidates = [(len(lacking := _missing(path, text)), lacking, path) for path in _system_fonts(missing)]
    best = min(candidates, key=lambda found: found[0], default=(len(missing), missing, OWN))
    if best[0]:
        log.warning(
            "no font here has the letters %s of %r: they are drawn as escapes; install a font that has them, "
            "such as fonts-noto-core or fonts-noto-cjk, and fontconfig",
            " ".join(f"U+{ord(letter):04X}" for letter in sorted(best[1])[:8]),
            text,
        )
    return best[2], best[1]


def _system_fonts(letters: frozenset[str]) -> list[Path]:
    """Files of the system's fonts that have all of ``letters``, as fontconfig knows them."""
    tool = shutil.which("fc-list")
    if tool is None:
        return []
    wanted = ":charset=" + " ".join(f"{ord(letter):x}" for letter in sorted(letters))
    command = [tool, "--format", "%{file}\n", wanted]
    found = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    return [Path(line) for line in sorted(set(found.stdout.splitlines()))][:20]


def _missing(path: Path, text: str) -> frozenset[str]:
    """The letters of ``text`` that a font draws as it draws what it lacks."""
    try:
        font = _font(path, 16)
        box = bytes(font.getmask(_NO_CHARACTER))
        return frozenset(c for c in set(text) if not c.isspace() and bytes(font.getmask(c)) == box)
    except OSError:  # bitmap fonts, which FreeType cannot scale
        return frozenset(text)


@lru_cache(maxsize=64)
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)
