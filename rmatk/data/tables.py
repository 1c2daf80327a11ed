"""Tables of photos and labels, as people and tools write them: CSV, TSV, Excel's semicolons, Kaggle.

A row names a photo and its class; a heading or, without one, the values tell which column is which. A column
of parts (``split``, ``subset``) and one column per class holding 0 and 1 (Roboflow's ``_classes.csv``) are
understood; a table that is not is refused by the names of its columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rmatk.data.class_names import class_name
from rmatk.data.parts import Part, fallbacks, part_of
from rmatk.data.paths import Photos
from rmatk.data.photos import Dataset
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.files import IMAGE_SUFFIXES, natural_key
from rmatk_runtime.text_files import read_text

CSV_HINT = "one photo per line: path,label; paths are relative to the file"
TABLE_SUFFIXES = (".csv", ".tsv")
# names of columns in order of preference
_PATHS = (
    "path filepath file_path imagepath image_path img_path relative_path filename file_name file image_file "
    "img_file image_name img_name image img photo picture image_id img_id id"
)
_LABELS = (
    "label labels class classes class_name classname label_name category category_name target species breed "
    "tag tags ground_truth y name"
)
_SPLITS = "split subset set part partition fold usage data_set dataset phase tvt"
_ROWS_LOOKED_AT = 50

Row = tuple[int, list[str]]


@dataclass(frozen=True)
class _Columns:
    """Which column is what; ``classes``: the names of one-hot columns by their numbers."""

    path: int
    label: int | None
    split: int | None
    classes: dict[int, str]


def read_table(path: Path, part: Part | None = None, folders: Sequence[Path] = ()) -> Dataset:
    """Read a table of photos; rows of another part are left out where it has a column of parts.

    Labels are class names (underscores become spaces), sorted as folders would be; paths are relative to
    the table's folder, or to one of ``folders``, or absolute.

    Raises:
        DataError: not a text file, no photos, a row without photo or label, columns that are not recognised.
    """
    rows = _rows(path)
    columns, rows = _columns(path, rows)
    if not rows:
        raise DataError(f"expected lines of path,label in {path}, found none", CSV_HINT)
    rows, notes = _of_part(path, rows, columns.split, part)
    below = sorted({*folders, *_below(path.parent)}, key=lambda folder: _rank(folder, path))
    photos = Photos(path, [path.parent, *below])
    files: dict[str, list[Path]] = {}
    for number, row in rows:
        if len(row) <= max(columns.path, columns.label or 0) or not row[columns.path]:
            raise _malformed(path, number, row)
        label = _label(path, number, row, columns)
        raw = _value(row, columns.label) if columns.label is not None else label
        split = _value(row, columns.split) if columns.split is not None else ""
        above = (f"{split}/{raw}", raw, split) if split else (raw,)
        files.setdefault(label, []).append(photos.find(row[columns.path], f"line {number}", above))
    names = sorted(files, key=natural_key)
    return Dataset(path.parent, tuple(names), tuple(tuple(files[name]) for name in names), notes=notes)


def _rows(path: Path) -> list[Row]:
    """Numbered rows of stripped fields, without empty ones and Excel's ``sep=`` line."""
    try:
        text = read_text(path)
    except ValueError as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}", CSV_HINT) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    first = lines[0].strip()
    mark = first[4:] if first.lower().startswith("sep=") and len(first) == 5 else _separator(lines)
    if first.lower().startswith("sep="):
        text = "\n".join(["", *lines[1:]])
    try:
        numbered = list(enumerate(csv.reader(io.StringIO(text), delimiter=mark), 1))
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}", CSV_HINT) from error
    rows = [(number, [field.strip() for field in row]) for number, row in numbered]
    return [(number, row) for number, row in rows if any(row)]


def _separator(lines: Sequence[str]) -> str:
    """The mark by which the first lines fall into columns, one of which names images if any does."""

    def worth(mark: str) -> tuple[int, bool, int]:
        rows = [row for row in csv.reader(lines[:_ROWS_LOOKED_AT], delimiter=mark) if any(row)]
        sizes = {len(row) for row in rows}
        return sum(map(_names_image, rows)), len(sizes) == 1 and sizes != {1}, max(sizes, default=1)

    try:
        return max(",;\t|", key=worth)  # the first of equals
    except csv.Error:
        return ","


def _columns(path: Path, rows: list[Row]) -> tuple[_Columns, list[Row]]:
    """What the columns hold, and the rows without heading."""
    heading = rows[0][1] if rows and not _names_image(rows[0][1]) else None
    body = rows[1:] if heading is not None else rows
    if not body:
        return _Columns(0, 1, None, {}), body
    width = len(heading or body[0][1])
    known = [field.casefold().replace(" ", "_").replace("-", "_") for field in heading or ()]
    photo = _image_column(body, width)
    if photo is None:
        photo = next((known.index(name) for name in _PATHS.split() if name in known), 0)
    split = next(
        (known.index(name) for name in _SPLITS.split() if name in known and known.index(name) != photo), None
    )
    rest = [number for number in range(width) if number not in (photo, split)]
    if split is None and heading is None and len(rest) > 1:
        split = next((n for n in rest if all(part_of(value) for value in _values(body, n))), None)
        rest = [number for number in rest if number != split]
    label = next(
        (known.index(name) for name in _LABELS.split() if name in known and known.index(name) in rest), None
    )
    if label is None and len(rest) > 1 and heading is not None:
        ones = [n for n in rest if set(_values(body, n)) <= {"0", "1", "0.0", "1.0"}]
        if len(ones) == len(rest):
            return _Columns(photo, None, split, {n: heading[n] for n in ones}), body
    if label is None and len(rest) == 1:
        label = rest[0]
    if label is None and heading is None:
        raise _malformed(path, *body[0])
    if label is None:
        raise DataError(
            f"{path}: cannot tell which column holds the class; found: {', '.join(heading or ())}",
            "name the columns path and label (and split, if it has one)",
        )
    return _Columns(photo, label, split, {}), body


def _of_part(
    path: Path, rows: list[Row], column: int | None, part: Part | None
) -> tuple[list[Row], tuple[str, ...]]:
    """The rows of a part, where the table has a column of parts."""
    if column is None or part is None:
        return rows, ()
    parts = {value: part_of(value) for value in _values(rows, column)}
    if not any(parts.values()):
        return rows, ()
    known = {found for found in parts.values() if found}
    wanted = next((name for name in fallbacks(part) if name in known), None)
    if wanted is None:
        raise DataError(
            f"{path} has no rows of the part {part}; its parts are: {', '.join(sorted(parts))}", CSV_HINT
        )
    kept = [(number, row) for number, row in rows if parts.get(_value(row, column)) == wanted]
    strange = sorted(value for value, found in parts.items() if found is None)
    count = sum(_value(row, column) in strange for _, row in rows)
    note = f"{path.name}: {count} rows of no known part are not read: {', '.join(map(repr, strange[:5]))}"
    return kept, (note,) if strange else ()


def _label(path: Path, number: int, row: list[str], columns: _Columns) -> str:
    if columns.label is not None:
        if not row[columns.label]:
            raise _malformed(path, number, row)
        return class_name(row[columns.label])
    own = [name for n, name in columns.classes.items() if _value(row, n) in ("1", "1.0")]
    if len(own) != 1:
        raise DataError(
            f"{path}, line {number}: expected one class, found {len(own)}: {', '.join(own) or 'none'}",
            "a photo has one class: leave out photos of several or of none",
        )
    return class_name(own[0])


def _malformed(path: Path, number: int, row: Sequence[str]) -> DataError:
    return DataError(f"{path}, line {number}: expected path,label, found {','.join(row)!r}", CSV_HINT)


def _names_image(row: Sequence[str]) -> bool:
    return any(Path(field.strip().replace("\\", "/")).suffix.lower() in IMAGE_SUFFIXES for field in row)


def _image_column(rows: Sequence[Row], width: int) -> int | None:
    """The column in which most values name images, or None."""
    counts = [sum(_names_image([value]) for value in _values(rows, number)) for number in range(width)]
    return counts.index(max(counts)) if max(counts, default=0) else None


def _values(rows: Sequence[Row], column: int) -> list[str]:
    return [_value(row, column) for _, row in rows]


def _value(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""


def _rank(folder: Path, table: Path) -> tuple[int, str]:
    """Where to look first: beside ``train.csv`` in ``train``, then in folders of no part, then in others."""
    own, of = part_of(folder.name), part_of(table.stem, file=True)
    return (0 if own is not None and own == of else 1 if own is None else 2), folder.name


def _below(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
