"""Minor versions: what older and newer readers do with each other's files."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from rmatk_runtime.formats import Format


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    size: int


class NewInner(Inner, frozen=True, forbid_unknown_fields=True, kw_only=True):
    author: str = ""


class Old(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: Literal[1] = 1
    minor: int = 0
    inner: Inner
    several: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    maybe: Inner | None = None


class New(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: Literal[1] = 1
    minor: int = 0
    inner: NewInner
    several: tuple[NewInner, ...] = ()
    named: dict[str, NewInner] = {}
    maybe: NewInner | None = None
    notes: tuple[str, ...] = ()


OLD = Format(Old, decisive=("inner",))
NEW = Format(
    New,
    added={
        "inner.author": 1,
        "several.author": 2,
        "named.author": 2,
        "maybe.author": 2,
        "notes": 3,
    },
    decisive=("inner",),
)


def new(**fields: object) -> New:
    return New(inner=NewInner(size=1), **fields)  # type: ignore[arg-type]


def test_what_uses_nothing_new_is_written_as_before():
    data = NEW.encode(new(several=(NewInner(size=2),), maybe=NewInner(size=3)))
    assert b"minor" not in data and b"author" not in data and b"notes" not in data
    value, ignored = OLD.decode(data)
    assert (value.inner.size, value.several[0].size, value.maybe.size, ignored) == (1, 2, 3, ())


@pytest.mark.parametrize(
    ("fields", "minor", "left_out"),
    [
        ({"notes": ("a",)}, 3, ("$.notes",)),
        ({"several": (NewInner(size=1), NewInner(size=1, author="a"))}, 2, ("$.several[1].author",)),
        ({"named": {"k": NewInner(size=1, author="a")}}, 2, ("$.named.k.author",)),
        ({"maybe": NewInner(size=1, author="a")}, 2, ("$.maybe.author",)),
    ],
)
def test_an_older_reader_leaves_newer_fields_out_and_names_them(fields: dict, minor: int, left_out: tuple):
    data = NEW.encode(new(**fields))
    assert msgspec.json.decode(data)["minor"] == minor
    value, ignored = OLD.decode(data)
    assert ignored == left_out and value.inner == Inner(size=1)
    assert NEW.decode(data) == (new(**fields, minor=minor), ())


def test_a_newer_field_that_decides_what_is_computed_is_refused():
    data = NEW.encode(New(inner=NewInner(size=1, author="a")))
    assert NEW.decode(data)[0].minor == 1
    with pytest.raises(msgspec.ValidationError, match=r"\$\.inner\.author.*use a newer rmatk"):
        OLD.decode(data)


def test_what_was_read_from_a_newer_version_is_not_written_without_its_fields():
    value, _ = OLD.decode(NEW.encode(new(notes=("a",))))
    with pytest.raises(ValueError, match="minor version 3, of which this rmatk knows 0"):
        OLD.encode(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"notes": []}, "unknown field `notes`"),
        ({"minor": "1"}, "Expected `int`"),
        ({"minor": 9, "version": 2}, "Invalid enum value 2"),
        ({"minor": 9, "inner": 4}, r"Expected `object`, got `int` - at `\$.inner`"),
        ({"minor": 9, "inner": {}}, "missing required field `size`"),
    ],
)
def test_what_is_refused(change: dict, message: str):
    data = msgspec.json.encode({"version": 1, "inner": {"size": 1}} | change)
    with pytest.raises(msgspec.ValidationError, match=message):
        OLD.decode(data)


def test_a_field_that_returns_to_its_default_lowers_the_minor_version():
    value, _ = NEW.decode(NEW.encode(new(notes=("a",))))
    assert b"minor" not in NEW.encode(msgspec.structs.replace(value, notes=()))
