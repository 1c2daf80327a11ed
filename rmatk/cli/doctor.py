"""``rmatk doctor``: what this machine can do; for the rest, the reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmatk.cli import app, console
from rmatk_runtime.errors import command
from rmatk_runtime.printable import printable

if TYPE_CHECKING:
    from rmatk_runtime.doctor.probe import Probe


@app.command()
def doctor(
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="Also try whether this bundle runs here.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what this machine can do and how to fix the rest."""
    from rmatk_runtime.doctor.diagnosis import examine, probe_bundle

    sections = examine()
    if bundle is not None:
        sections["bundle"] = probe_bundle(bundle)
    probes = [probe for section in sections.values() for probe in section]
    if as_json:
        console.print_json({"probes": [probe.as_record() for probe in probes]})
    else:
        _print(sections)
    if bundle is not None and not probes[-1].ok:
        raise typer.Exit(1)
    if not as_json:
        infer = command("rmatk", "infer", bundle, "--camera", "test://")
        console.print_next("rmatk demo" if bundle is None else infer)


def _print(sections: dict[str, list[Probe]]) -> None:
    """Under each heading one line per capability; reasons are wrapped, cures stay whole, to be copied."""
    import textwrap

    from rich.console import Console
    from rich.text import Text

    output = Console(highlight=False)
    width = max(len(probe.name) for probes in sections.values() for probe in probes)
    wrap = textwrap.TextWrapper(
        max(output.width - width - 5, width),
        break_long_words=False,
        break_on_hyphens=False,
    )
    for heading, probes in sections.items():
        output.print(Text(heading, style="bold"))
        for probe in probes:
            mark, style = _mark(probe)
            lines = [part for line in map(printable, probe.reason.splitlines()) for part in wrap.wrap(line)]
            reason = ("\n" + " " * (width + 5)).join(lines)
            output.print(
                Text.assemble((mark, style), f" {printable(probe.name):{width}}  {reason}"), soft_wrap=True
            )
            if probe.hint:
                output.print(Text(f"   -> {printable(probe.hint)}"), soft_wrap=True)
    output.print(Text("ok: works   no: broken   --: not here, which matters only where it is wanted", "dim"))


def _mark(probe: Probe) -> tuple[str, str]:
    """(mark, its style)."""
    if probe.ok:
        return "ok", "green"
    return ("--", "dim") if probe.optional else ("no", "bold red")
