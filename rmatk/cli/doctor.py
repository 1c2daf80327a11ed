"""``rmatk doctor``: what this machine can do, and why not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmatk.cli import app, console


@app.command()
def doctor(
    bundle: Annotated[
        Path | None, typer.Argument(help="Also try whether this bundle runs here.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at packages, engines, GPU, cameras, memory and disk; say why something is missing, and the cure."""
    from rmatk_runtime.doctor import examine

    probes = examine(bundle)
    if as_json:
        console.print_json({"probes": probes})
    else:
        width = max(len(probe.name) for probe in probes)
        for probe in probes:
            typer.echo(f"{'ok' if probe.ok else 'no':3} {probe.name:{width}}  {probe.reason}")
            if probe.hint and not probe.ok:
                typer.echo(f"{'':{width + 4}}  -> {probe.hint}")
        console.print_next("rmatk demo" if bundle is None else f"rmatk infer {bundle} --camera test://")
    if bundle is not None and not probes[-1].ok:
        raise typer.Exit(1)
