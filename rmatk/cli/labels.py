"""``rmatk labels``: shows and changes a bundle's labels in place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmatk.cli import app, console
from rmatk.cli.echo import echo
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_runtime.labels.editor import Edited

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The class name, in words.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

commands = typer.Typer(
    help="Show and change a bundle's labels, without torch or a new engine.",
    rich_markup_mode=None,
)
app.add_typer(commands, name="labels")


@commands.callback(invoke_without_command=True)
def _labels(
    context: typer.Context,
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle written by rmatk export.", show_default=False)
    ],
) -> None:
    context.obj = bundle
    if context.invoked_subcommand is None:
        show(context)


@commands.command("list")
def show(context: typer.Context, as_json: _Json = False) -> None:
    """Show the labels and the prompts they were made from."""
    from rmatk_runtime.labels.editor import Edited, read_labels

    _print(
        context.obj,
        Edited(read_labels(context.obj)),
        as_json,
        after=command("rmatk", "infer", context.obj, "--camera", 0),
    )


@commands.command()
def add(
    context: typer.Context,
    name: _Name,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help='"a photo of a {}."; several are averaged; the bundle\'s own if unset.'
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Add a class."""
    from rmatk_runtime.labels.editor import add_label

    _print(context.obj, add_label(context.obj, name, prompt or ()), as_json)


@commands.command()
def remove(context: typer.Context, name: _Name, as_json: _Json = False) -> None:
    """Remove a class."""
    from rmatk_runtime.labels.editor import remove_label

    _print(context.obj, remove_label(context.obj, name), as_json)


@commands.command()
def rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The current name.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.", show_default=False)],
    as_json: _Json = False,
) -> None:
    """Rename a class; what it recognises stays the same."""
    from rmatk_runtime.labels.editor import rename_label

    _print(context.obj, rename_label(context.obj, old, new), as_json)


@commands.command("set")
def replace(
    context: typer.Context,
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(
            metavar="FILE", help="One class per line, then tabs and prompts if wanted; - is standard input."
        ),
    ],
    as_json: _Json = False,
) -> None:
    """Replace all classes by those in a file."""
    from rmatk_runtime.errors import LabelError
    from rmatk_runtime.labels.editor import set_labels
    from rmatk_runtime.text_files import decode_text

    try:
        lines = decode_text(file.read()).splitlines()
    except ValueError as error:
        raise LabelError(f"{file.name}: {error}") from error
    rows = [line.split("\t") for line in lines if line.strip()]
    wanted = [(name, [text for text in templates if text]) for name, *templates in rows]
    _print(context.obj, set_labels(context.obj, wanted), as_json)


def _print(bundle: Path, edited: Edited, as_json: bool, after: str | None = None) -> None:
    """The labels as they are now, what to know about them, and the next command."""
    from rmatk_runtime.bundle import read_manifest

    decision = read_manifest(bundle).decision
    if as_json:
        console.print_json({"bundle": str(bundle), **_record(edited), "decision": decision})
        return
    rows = [(label.name, " | ".join(label.prompts)) for label in edited.labels]
    console.print_table(f"{len(rows)} labels of {bundle}", ("label", "made from"), rows, text=True)
    for warning in edited.warnings:
        echo(f"warning: {warning}", err=True)
    if decision.labels_changed:
        threshold = decision.reject_threshold
        fitted = "temperature was" if threshold is None else f"reject threshold ({threshold:.3f}) was"
        echo(f"note: the {fitted} fitted before the labels were changed, and may not suit", err=True)
    console.print_next(after or command("rmatk", "parity", bundle))


def _record(edited: Edited) -> dict[str, object]:
    import msgspec

    return dict(msgspec.to_builtins(edited))
