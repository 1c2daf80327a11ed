"""Finds which options were typed, so that options without effect are refused by name."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def given(context: typer.Context) -> list[str]:
    """The parameters that the command line sets, whatever their values, by their Python names."""
    return [name for name in context.params if _was_given(context, name)]


def flags(names: Iterable[str]) -> str:
    """Parameters as they are typed: ``--image-blocks, --lr``."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
