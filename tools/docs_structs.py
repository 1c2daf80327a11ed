"""Tables of the fields of msgspec structs, for the reference of the file formats."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec

from tools.docs_markdown import table


def fields(kind: Any) -> str:
    """One row per field of a struct, those of inner structs as ``outer.inner``."""
    return table(("field", "type", "default"), _rows(kind, ""))


def _rows(kind: Any, prefix: str) -> list[tuple[str, str, str]]:
    hints = typing.get_type_hints(kind)
    rows: list[tuple[str, str, str]] = []
    structs = msgspec.structs.fields(kind) if issubclass(kind, msgspec.Struct) else ()
    for field in structs:
        name = f"{prefix}{field.encode_name}"
        inner, mark = _inner(hints[field.name])
        default = "" if field.required else f"`{_json(field)}`"
        rows.append((f"`{name}{mark}`", _type_name(hints[field.name]), default))
        if inner is not None:
            rows.extend(_rows(inner, f"{name}{mark}."))
    return rows


def _json(field: Any) -> str:
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    encoded = msgspec.json.encode(default).decode()
    return encoded if len(encoded) < 40 else "{...}"


def _inner(hint: Any) -> tuple[type[msgspec.Struct] | None, str]:
    """The struct inside a field's type, and how many of them there are."""
    mark = {tuple: "[]", dict: "{}", list: "[]"}.get(typing.get_origin(hint), "")
    for part in (hint, *typing.get_args(hint)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part, mark
    return None, mark


def _type_name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{msgspec.json.encode(value).decode()}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in arguments)
    if origin in (tuple, list):
        return f"array of {_type_name(arguments[0])}"
    if origin is dict:
        return f"object of {_type_name(arguments[1])}"
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return names.get(hint, "object")
