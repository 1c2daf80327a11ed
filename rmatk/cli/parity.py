"""``rmatk parity``: does the bundle give what PyTorch gave? Exit code 3 and the first bad stage if not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmatk.cli import app
from rmatk.cli.echo import echo
from rmatk.cli.infer.options import BackendOption, Trust
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_runtime.parity.stage import Bisection, StageResult


@app.command()
def parity(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle folder, written by rmatk export.")
    ],
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="Photos, one subfolder per class; needs --against.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run to compare with, in PyTorch, on DATA.")
    ] = None,
    backend: BackendOption = "auto",
    trust: Trust = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the first node of a failing graph that diverges.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page, with the pictures that changed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check every stage of a bundle against PyTorch.

    On the golden set inside the bundle, or on the photos in DATA with --against RUN.
    """
    if (data is None) != (against is None):
        raise typer.BadParameter("DATA and --against RUN go together; neither checks from the golden set")

    from rmatk.api import check_parity
    from rmatk.cli.console import TRAINED_ON, print_json, print_next, print_stages, progress_of
    from rmatk.cli.logs import log_lines
    from rmatk.parity.page import write_parity_page

    with log_lines(logging.WARNING), progress_of("parity", quiet=as_json) as on_progress:
        report = check_parity(
            bundle,
            data,
            against=against,
            backend=backend,
            bisect=bisect,
            trust=trust,
            on_progress=on_progress,
        )
    if html is not None:
        write_parity_page(
            html,
            report.bundle,
            report.stages,
            report.bisections,
            reference=report.basis,
            picture=report.picture,
        )
    if as_json:
        result = {
            "bundle": str(bundle),
            "basis": report.basis,
            "passed": bool(report),
            "stages": report.stages,
        }
        print_json({**result, "bisections": report.bisections} if bisect else result)
    else:
        photos = TRAINED_ON if data is None else f"photos in {data}"
        print_stages(f"parity of {bundle} with PyTorch", report.stages, photos)
        echo(f"checked {report.basis}")
        _print_bisections(report.bisections, report.stages)
        if html is not None:
            echo(f"the page: {html}")
    report.require_passed()
    if not as_json:
        print_next(command("rmatk", "infer", bundle, "--camera", 0))


def _print_bisections(bisections: Sequence[Bisection], stages: Sequence[StageResult]) -> None:
    """The nodes that add most to what their inputs hold, and what follows from them."""
    from rmatk.cli.console import print_table
    from rmatk_runtime.parity.table import LISTED, NODE_HEADINGS, node_row, verdict

    by_name = {stage.stage: stage for stage in stages}
    for found in bisections:
        rows = [node_row(node) for node in found.largest(LISTED)]
        print_table(f"{found.stage}: largest own deviations", NODE_HEADINGS, rows, wrap=True)
        echo(verdict(found, by_name[found.stage]))
