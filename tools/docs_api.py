"""The pages of the Python API: every name of ``rmatk.__all__``, by kind, for mkdocstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec

import rmatk
from rmatk_runtime.errors import RmatkError
from tools.docs_markdown import first_sentence, table

KINDS = ("functions", "classes", "settings", "errors")  # each with a page of its name


def _kind(value: Any) -> str:
    if inspect.isfunction(value):
        return "functions"
    if issubclass(value, RmatkError):
        return "errors"
    settings = issubclass(value, msgspec.Struct) or value.__name__.endswith(("Config", "Options"))
    return "settings" if settings else "classes"


def _public() -> Iterator[tuple[str, Any]]:
    for name in rmatk.__all__:
        value = getattr(rmatk, name)
        if not isinstance(value, str):
            yield name, value


def overview() -> str:
    """Every public name with its page and first sentence; errors have a table of their own."""
    rows = (
        (f"`{name}`", f"[{kind}]({kind}.md)", first_sentence(value.__doc__ or ""))
        for kind in KINDS[:-1]
        for name, value in _public()
        if _kind(value) == kind
    )
    return table(("name", "page", "purpose"), rows)


def page(kind: str) -> str:
    """The directives by which mkdocstrings shows every public name of one kind."""
    return "\n\n".join(f"::: {value.__module__}.{name}" for name, value in _public() if _kind(value) == kind)
