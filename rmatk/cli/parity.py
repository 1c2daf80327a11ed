"""``rmatk parity``: does the bundle give what PyTorch gave? Exit code 3 and the first bad stage if not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmatk.cli import app
from rmatk.cli.infer.options import BackendOption
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_export.parity.bisect import Bisection
    from rmatk_runtime.parity.compare import StageResult

_FLIPS = 10  # of a stage on the terminal; JSON has all, a page the pictures of the first


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
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the first node of a failing graph that departs.")
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

    from rmatk.cli.checked import bisect_checked, check_carried, check_photos
    from rmatk.cli.console import print_json, print_next
    from rmatk.parity.page import write_parity_page
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.errors import ParityError
    from rmatk_runtime.golden_check import open_engines

    opened = Bundle.open(bundle)
    with open_engines(opened, backend) as engines:
        if data is not None and against is not None:
            checked = check_photos(opened, engines, against, data, quiet=as_json)
        else:
            checked = check_carried(opened, engines)
        bisections = bisect_checked(opened, engines, checked, quiet=as_json) if bisect else []
    if html is not None:
        write_parity_page(
            html, opened, checked.stages, bisections, reference=checked.basis, picture=checked.picture
        )
    failed = next((stage for stage in checked.stages if not stage), None)
    if as_json:
        result = {
            "bundle": str(bundle),
            "basis": checked.basis,
            "passed": failed is None,
            "stages": checked.stages,
        }
        print_json({**result, "bisections": bisections} if bisect else result)
    else:
        print_stages(f"parity of {bundle} with PyTorch", checked.stages)
        typer.echo(f"checked {checked.basis}")
        _print_bisections(bisections, checked.stages)
        if html is not None:
            typer.echo(f"the page: {html}")
    if failed is not None:
        raise ParityError(
            f"parity fails at the stage '{failed.stage}': {failed.reason}", _hint(failed, bisect=bisect)
        )
    if not as_json:
        print_next(command("rmatk", "infer", bundle, "--camera", 0))


def _hint(failed: StageResult, *, bisect: bool) -> str:
    from rmatk_runtime.parity.compare import PREPROCESSING

    versions = "rmatk doctor shows the versions in use"
    if failed.stage == PREPROCESSING:
        return f"nothing behind it was checked; export again, or use the Pillow of the export; {versions}"
    if failed.stage.startswith("onnxruntime") and not bisect:
        return f"find the node where the graph departs: --bisect; {versions}"
    return versions


def print_stages(title: str, stages: Sequence[StageResult]) -> None:
    """One row per stage, then every label that changed."""
    from rmatk.cli.console import print_table
    from rmatk.parity.stages import SHORT, stage_row

    print_table(title, SHORT, map(stage_row, stages), wrap=True)
    for stage in stages:
        if stage.reference_accuracy is not None:
            typer.echo(f"accuracy in PyTorch: {stage.reference_accuracy:.1%}")
            break
    for stage in stages:
        for flip in stage.flips[:_FLIPS]:
            typer.echo(
                f"{stage.stage}: {flip.image} {flip.reference} -> {flip.candidate} (margin {flip.margin:.3f})"
            )
        if len(stage.flips) > _FLIPS:
            typer.echo(f"{stage.stage}: and {len(stage.flips) - _FLIPS} more")


def _print_bisections(bisections: Sequence[Bisection], stages: Sequence[StageResult]) -> None:
    """The nodes that add most to what their inputs hold, and what follows from them."""
    from rmatk.cli.console import print_table
    from rmatk.parity.bisections import LISTED, NODE_HEADINGS, node_row, verdict

    by_name = {stage.stage: stage for stage in stages}
    for found in bisections:
        rows = [node_row(node) for node in found.largest(LISTED)]
        print_table(f"{found.stage}: largest own deviations", NODE_HEADINGS, rows, wrap=True)
        typer.echo(verdict(found, by_name[found.stage]))
