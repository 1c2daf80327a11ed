"""Options as the user knows them: which were typed, and the option that sets a field."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def given(context: typer.Context) -> list[str]:
    """The parameters that the command line sets, whatever their values, by their Python names."""
    return [name for name in context.params if _was_given(context, name)]


def flags(names: Iterable[str]) -> str:
    """Parameters as they are typed: ``--image-blocks, --lr``."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def flag(field: str) -> str:
    """The option that sets a field of a configuration: ``image_blocks`` -> ``--image-blocks``."""
    option = {
        "templates": "template",
        "precisions": "precision",
        "compute_capabilities": "compute_capability",
    }
    return flags([option.get(field, field)])


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
