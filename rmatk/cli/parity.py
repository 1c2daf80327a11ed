"""``rmatk parity``: does the bundle give what PyTorch gave? Exit code 3 and the first bad stage if not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmatk.cli import app

if TYPE_CHECKING:
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.parity import Engine, StageResult


@app.command()
def parity(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder, written by rmatk export.")],
    data: Annotated[
        Path | None, typer.Argument(help="Photos, one subfolder per class; needs --against.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run to compare with, in PyTorch, on DATA.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="The engine to check: auto, tensorrt, ort-tensorrt, cuda, cpu.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check every stage against PyTorch: on the bundle's golden set, or on photos with --against RUN."""
    if (data is None) != (against is None):
        raise typer.BadParameter("DATA and --against RUN go together; neither checks from the golden set")

    from rmatk.cli.console import print_json, print_next
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.errors import ParityError
    from rmatk_runtime.parity import check_golden, open_engines

    opened = Bundle.open(bundle)
    with open_engines(opened, backend) as engines:
        if data is not None and against is not None:
            stages = _against(opened, engines, against, data, quiet=as_json)
        else:
            stages = check_golden(opened, engines)
    failed = next((stage for stage in stages if not stage), None)
    if as_json:
        print_json({"bundle": str(bundle), "passed": failed is None, "stages": stages})
    else:
        print_stages(f"parity of {bundle} with PyTorch", stages)
    if failed is not None:
        raise ParityError(f"parity fails at the stage '{failed.stage}': {failed.reason}", "rmatk doctor")
    if not as_json:
        print_next(f"rmatk infer {bundle} --camera 0")


def _against(
    bundle: Bundle, engines: Sequence[Engine], run: Path, data: Path, *, quiet: bool
) -> list[StageResult]:
    from rmatk.backbone import load_backbone
    from rmatk.cli.console import progress_bar
    from rmatk.data import read_folder
    from rmatk.parity import check_against_run
    from rmatk.run import load_run

    loaded = load_run(run)
    config = loaded.record.config
    photos = read_folder(data)
    backbone = load_backbone(config.model, config.pretrained)
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("photos", total=len(photos.flat()[0]), note="")
        return check_against_run(
            bundle,
            engines,
            loaded,
            backbone,
            photos,
            on_images=lambda count: progress.advance(task, count),
        )


def print_stages(title: str, stages: Sequence[StageResult]) -> None:
    """One row per stage, then every label that changed."""
    from rmatk.cli.console import print_table
    from rmatk.stages import HEADINGS, stage_row

    print_table(title, HEADINGS, map(stage_row, stages), wrap=True)
    for stage in stages:
        for flip in stage.flips:
            typer.echo(
                f"{stage.stage}: {flip.image} {flip.reference} -> {flip.candidate} (margin {flip.margin:.3f})"
            )
