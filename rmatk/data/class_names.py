"""Class names: two of them that are one, codes that say nothing in a prompt, and a file that names codes.

A prompt is all that the text tower knows of a class, so that "a photo of a 001.Black footed Albatross." or
"a photo of a 17." wastes it, and two names that differ in case or hyphens alone compete for the same photos.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from rmatk_runtime.errors import DataError
from rmatk_runtime.text_files import read_text

_CODE = re.compile(
    r"[\W_]*\d+[\W_]*|n\d{8}([\W_].*)?|(class|label|category|cls|id|c)[\W_]*\d+", re.IGNORECASE
)
_NUMBERED = re.compile(r"\d+[ ._-]+\D.*")
_HINT = "lines of code,name (CSV, TSV or text), or a JSON object of code to name"
_LISTED = 5


def class_name(raw: str) -> str:
    """The class that a folder or label stands for: composed (macOS decomposes), ``_`` being a space."""
    return " ".join(unicodedata.normalize("NFC", raw).replace("_", " ").split())


def twins(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that are one but for case, spaces, underscores and hyphens between words."""
    groups: dict[str, list[str]] = {}
    for name in names:
        joined = re.sub(r"(?<=\w)[\s_-]+(?=\w)", "", unicodedata.normalize("NFKC", name).casefold())
        groups.setdefault(joined.strip(), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def check_twins(names: Sequence[str], source: Path) -> None:
    """Refuse names between which neither a prompt nor a reader can tell.

    Raises:
        DataError: naming them.
    """
    if found := twins(names):
        listed = "; ".join(" and ".join(map(repr, group)) for group in found[:_LISTED])
        raise DataError(
            f"classes of {source} have one name, but for case, spaces and hyphens: {listed}"
            + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""),
            "merge or rename them; --class-names FILE gives each class a name of its own",
        )


def codes_note(names: Sequence[str], template: str) -> tuple[str, ...]:
    """A note where names are codes rather than words, with the prompt that such a name makes."""
    codes = [name for name in names if _CODE.fullmatch(name)]
    numbered = [name for name in names if _NUMBERED.fullmatch(name)]
    if 2 * len(numbered) >= len(names):
        codes = [name for name in names if name in {*codes, *numbered}]
    if not codes:
        return ()
    return (
        f"{len(codes)} of {len(names)} class names look like codes: a prompt is "
        f"{template.replace('{}', codes[0])!r}; --class-names FILE (lines of code,name) gives them names",
    )


def read_class_names(path: Path) -> dict[str, str]:
    """Read code -> name from CSV, TSV, lines ``code name``, or JSON (``{code: name}``, ``[[code, name]]``).

    Raises:
        DataError: not such a file, a code with two names.
    """
    try:
        text = read_text(path)
        pairs = _from_json(text) if path.suffix.lower() == ".json" else _from_lines(text)
    except FileNotFoundError:
        raise DataError(f"expected a file of class names, found nothing at {path}", _HINT) from None
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise DataError(f"{path} cannot be read as class names: {error}", _HINT) from error
    names: dict[str, str] = {}
    for code, name in pairs:
        code, name = code.strip(), class_name(name)
        if not code or not name:
            raise DataError(f"{path}: expected a code and a name, found {code!r} and {name!r}", _HINT)
        if names.setdefault(code, name) != name:
            raise DataError(f"{path}: {code} is {names[code]!r}, and {name!r}", "leave one of the lines")
    if not names:
        raise DataError(f"expected lines of code,name in {path}, found none", _HINT)
    return names


def renamed(raw: Sequence[str], names: Mapping[str, str], source: Path) -> tuple[str, ...]:
    """The name of each folder or label ``raw``: by the whole of it, or by the code that it begins with.

    ``001.Black_footed_Albatross`` is looked up as it is and as ``001``, ``n02085620-Chihuahua`` also as
    ``n02085620``. A name that is itself one of the names stays.

    Raises:
        DataError: naming all that the file does not name.
    """
    table = {_key(code): name for code, name in names.items()}
    given = {_key(name) for name in names.values()}
    found = [_lookup(own, table, given) for own in raw]
    if missing := [own for own, name in zip(raw, found, strict=True) if name is None]:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise DataError(
            f"the file of class names has no line for {', '.join(map(repr, missing[:_LISTED]))}{more} "
            f"of {source}",
            "add a line code,name for each",
        )
    return tuple(name for name in found if name is not None)


def _lookup(raw: str, table: Mapping[str, str], given: set[str]) -> str | None:
    code = re.match(r"(n\d{8}|\d+)(?=[\W_])", raw.strip())
    for key in (_key(raw), *([_key(code[1])] if code else [])):
        if key in table:
            return table[key]
    return class_name(raw) if _key(raw) in given else None


def _key(text: str) -> str:
    return class_name(text).casefold()


def _from_json(text: str) -> list[tuple[str, str]]:
    """Keras's ``{"0": ["n01440764", "tench"]}`` names both its number and its id."""
    loaded = msgspec.json.decode(text.encode())
    if isinstance(loaded, list):
        rows = [row if isinstance(row, list) else [str(number), row] for number, row in enumerate(loaded)]
    elif isinstance(loaded, dict):
        rows = [[code, *(value if isinstance(value, list) else [value])] for code, value in loaded.items()]
    else:
        raise ValueError(f"expected an object or a list, found {type(loaded).__name__}")
    if bad := [row for row in rows if len(row) < 2 or not all(isinstance(e, (str, int)) for e in row)]:
        raise ValueError(f"expected code and name, found {bad[0]}")
    return [(str(code), str(row[-1])) for row in rows for code in row[:-1]]


def _from_lines(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    mark = next((m for m in ("\t", ";", ",") if lines and all(m in line for line in lines)), None)
    if mark is None:
        rows = [line.split(None, 1) for line in lines]
    else:
        rows = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=mark)]
    if (
        rows
        and len(rows) > 1
        and {field.casefold() for field in rows[0][:2]} & _HEADINGS
        and _is_header(rows)
    ):
        rows = rows[1:]
    if bad := [row for row in rows if len(row) < 2]:
        raise ValueError(f"expected code and name, found {' '.join(bad[0])!r}")
    return [(row[0], row[1]) for row in rows]


_HEADINGS = {"code", "id", "class", "class_id", "label", "wnid", "synset", "folder", "key", "index"}


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is no code: the others are of digits, and it is not."""
    return not any(c.isdigit() for c in rows[0][0]) or rows[0][0].casefold() in _HEADINGS
