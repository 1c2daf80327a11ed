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
    """Say what this machine can do; where not, why, and the cure."""
    import shlex

    from rmatk_runtime.doctor import examine

    probes = examine(bundle)
    if as_json:
        console.print_json({"probes": probes})
    else:
        width = max(len(probe.name) for probe in probes)
        for probe in probes:
            typer.echo(f"{'ok' if probe.ok else 'no':3} {probe.name:{width}}  {probe.reason}")
            if probe.hint:
                typer.echo(f"{'':{width + 4}}  -> {probe.hint}")
    if bundle is not None and not probes[-1].ok:
        raise typer.Exit(1)
    if not as_json:
        infer = ["rmatk", "infer", str(bundle), "--camera", "test://"]
        console.print_next("rmatk demo" if bundle is None else shlex.join(infer))
