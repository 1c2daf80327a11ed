"""Where a photo that a list names really is.

Lists travel between systems: Windows separates folders by backslashes, ignores case and writes accented
letters composed, macOS decomposes them, and tables of image ids leave the ending out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.files import IMAGE_SUFFIXES

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class Photos:
    """Finds the photos of one list.

    Args:
        source: the list, for messages.
        folders: where paths may be relative to; the first under which the first photos are is taken.
    """

    def __init__(self, source: Path, folders: Sequence[Path]) -> None:
        self.source, self.folders = source, list(folders)
        self._names: dict[Path, dict[str, list[str]]] = {}

    def find(self, text: str, where: str, above: Sequence[str] = ()) -> Path:
        """The photo that ``text`` names; ``where``: the line, for messages.

        ``above``: folders that ``text`` may be in, such as its class; tried where it is not found as it is.

        Raises:
            DataError: a path on a Windows drive.
        """
        if _DRIVE.match(text) and not Path(text).exists():
            raise DataError(
                f"{self.source}, {where}: {text} is a path on a Windows drive or share",
                f"write paths relative to {self.source.parent}",
            )
        for number, folder in enumerate(self.folders):
            if (found := self._in(folder, text)) is not None:
                if number:  # the others are there too
                    self.folders.insert(0, self.folders.pop(number))
                return found
        for own in above:
            if (found := self._in(self.source.parent, f"{own}/{text}")) is not None:
                return found
        return self.folders[0] / text.replace("\\", "/")

    def _in(self, folder: Path, text: str) -> Path | None:
        """The file below ``folder``, or None."""
        for spelled in dict.fromkeys((text, text.replace("\\", "/"))):
            if (folder / spelled).is_file():
                return folder / spelled
        place = folder
        words = [word for word in text.replace("\\", "/").split("/") if word not in ("", ".")]
        for number, word in enumerate(words):
            if (place / word).exists():
                place /= word
                continue
            last = number == len(words) - 1
            found = self._listed(place).get(_fold(word), [])
            if last and not found:
                found = self._listed(place).get(_fold(word) + "\0", [])
            if len(found) != 1:
                return None
            place /= found[0]
        return place if place.is_file() else None

    def _listed(self, folder: Path) -> dict[str, list[str]]:
        """Names in a folder by what they are without case and composition; images also without ending."""
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                names.setdefault(_fold(path.name), []).append(path.name)
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    names.setdefault(_fold(path.stem) + "\0", []).append(path.name)
            self._names[folder] = names
        return self._names[folder]


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
