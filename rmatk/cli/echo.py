"""Lines for people: no class name, file name or word of another program in them can steer a terminal."""

from __future__ import annotations

import typer

from rmatk_runtime.printable import printable


def echo(text: str, *, err: bool = False) -> None:
    """Write a line on standard output, or on the error stream; control characters come as escapes."""
    typer.echo(printable(text, keep="\n\t"), err=err)
