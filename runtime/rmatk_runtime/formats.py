"""Versions of the files that rmatk writes: what an older or newer rmatk may do with them (docs/FORMATS.md).

A file states ``version`` (major) and, where it uses fields added later, ``minor``. A reader accepts only its
own major version. Unknown fields are refused, except in a file of a newer minor version: there they are left
out and named, unless they belong to a part that decides what is computed; then the file is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class Format(Generic[T]):
    """How one kind of file is encoded and decoded; ``kind`` has the fields ``version`` and ``minor``.

    ``added``: each field added after version 1.0, as ``preprocess.name``, with its minor version. It must
    have a default, and is written only with another value, so that older readers still read the file.
    ``decisive``: fields of ``kind`` in which nothing may be left out, because they decide what is computed.
    """

    kind: type[T]
    added: Mapping[str, int] = field(default_factory=dict)
    decisive: Collection[str] = ()

    @property
    def minor(self) -> int:
        """The newest minor version that this rmatk knows."""
        return max(self.added.values(), default=0)

    def encode(self, value: T) -> bytes:
        """Indented JSON, of the lowest minor version that holds all that ``value`` says.

        Raises:
            ValueError: ``value`` was read from a newer minor version, whose fields would be lost.
        """
        if (newer := value.minor) > self.minor:  # type: ignore[attr-defined]
            raise ValueError(f"it has minor version {newer}, of which this rmatk knows {self.minor}")
        data = msgspec.to_builtins(value)
        used = [
            minor for path, minor in self.added.items() if _drop_default(data, self._type, path.split("."))
        ]
        data["minor"] = max(used, default=0)
        if not data["minor"]:
            del data["minor"]
        return msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"

    def decode(self, data: bytes) -> tuple[T, tuple[str, ...]]:
        """A file's content, and the places of newer fields that were left out (``$.golden.author``).

        Raises:
            msgspec.MsgspecError: not JSON, another version, unknown, missing or mistyped fields.
            UnicodeDecodeError: not UTF-8.
        """
        minor = msgspec.json.decode(data, type=_Header).minor
        if minor <= self.minor:
            return msgspec.json.decode(data, type=self.kind), ()
        raw = msgspec.json.decode(data)
        ignored: list[str] = []
        _drop_unknown(raw, self._type, "$", ignored)
        for place in ignored:
            if place.removeprefix("$.").split(".")[0].split("[")[0] in self.decisive:
                raise msgspec.ValidationError(
                    f"`{place}` of minor version {minor} decides what is computed, and is unknown to this "
                    f"rmatk, which knows minor version {self.minor}: use a newer rmatk"
                )
        return msgspec.convert(raw, self.kind), tuple(ignored)

    @property
    def _type(self) -> inspect.Type:
        return inspect.type_info(self.kind)


class _Header(msgspec.Struct):
    """What is looked at before the rest; anything else passes here."""

    minor: int = 0


def _fields(kind: inspect.Type) -> dict[str, inspect.Field] | None:
    """The fields of a struct by their names in JSON, None for other types."""
    if isinstance(kind, inspect.UnionType):
        return next((found for part in kind.types if (found := _fields(part)) is not None), None)
    return {f.encode_name: f for f in kind.fields} if isinstance(kind, inspect.StructType) else None


def _items(kind: inspect.Type) -> inspect.Type | None:
    """The type of what an array or object holds."""
    if isinstance(kind, inspect.UnionType):
        return next((found for part in kind.types if (found := _items(part)) is not None), None)
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return kind.item_type
    return kind.value_type if isinstance(kind, inspect.DictType) else None


def _drop_unknown(data: Any, kind: inspect.Type, place: str, ignored: list[str]) -> None:
    """Take fields that ``kind`` does not have out of ``data``, and note their places."""
    fields, items = _fields(kind), _items(kind)
    if fields is not None and isinstance(data, dict):
        for name in [name for name in data if name not in fields]:
            del data[name]
            ignored.append(f"{place}.{name}")
        for name, value in data.items():
            _drop_unknown(value, fields[name].type, f"{place}.{name}", ignored)
    elif items is not None and isinstance(data, dict):
        for name, value in data.items():
            _drop_unknown(value, items, f"{place}.{name}", ignored)
    elif items is not None and isinstance(data, list):
        for number, value in enumerate(data):
            _drop_unknown(value, items, f"{place}[{number}]", ignored)


def _drop_default(data: Any, kind: inspect.Type, path: list[str]) -> bool:
    """Take the field at ``path`` out of ``data`` where it has its default; returns whether one is left."""
    items = _items(kind)
    if items is not None and isinstance(data, dict | list | tuple):
        values = data.values() if isinstance(data, dict) else data
        return any([_drop_default(value, items, path) for value in values])
    fields = _fields(kind)
    if fields is None or not isinstance(data, dict):
        return False
    name, *rest = path
    if rest:
        return name in data and _drop_default(data[name], fields[name].type, rest)
    default = fields[name].default
    if default is msgspec.NODEFAULT and fields[name].default_factory is not msgspec.NODEFAULT:
        default = fields[name].default_factory()
    if default is msgspec.NODEFAULT or data[name] != msgspec.to_builtins(default):
        return True
    del data[name]
    return False
