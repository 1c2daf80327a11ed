"""``rmatk export``: a run -> a bundle, whole and proven, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from rmatk.cli import app

if TYPE_CHECKING:
    from rmatk_export.bundle import ExportReport
    from rmatk_runtime.manifest import Precision


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder, written by rmatk train.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle folder to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Where the training photos lie now, if they were moved.")
    ] = None,
    golden: Annotated[
        str, typer.Option(metavar="N|none", help="Training photos in the bundle for checks on the device.")
    ] = "32",
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16, int8; repeatable, the first is the default on a device."),
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Also graphs that take uint8 pixels, normalisation inside.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fold the adapters into ONNX graphs, drop the reconstruction branch, check parity, write a bundle."""
    if golden != "none" and not (golden.isdecimal() and int(golden) > 0):
        raise typer.BadParameter(f"--golden takes a number above 0, or none, not {golden!r}")

    chosen = _precisions(precision or ["fp32"])

    from rmatk.backbone import load_backbone
    from rmatk.deploy import export_source
    from rmatk.run import load_run
    from rmatk_export.bundle import write_bundle

    loaded = load_run(run)
    config = loaded.record.config
    backbone = load_backbone(config.model, config.pretrained)
    count = None if golden == "none" else int(golden)
    source = export_source(
        loaded,
        backbone,
        data=data,
        golden=count,
        ship=count is not None,
        precisions=chosen,
        pixels=pixels,
    )
    _show(out, write_bundle(source, out), as_json)


def _precisions(names: list[str]) -> tuple[Precision, ...]:
    """The precisions asked for, each once, in the order given."""
    known: dict[str, Precision] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"--precision takes {', '.join(known)}, not {unknown[0]!r}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _show(out: Path, report: ExportReport, as_json: bool) -> None:
    from rmatk.cli.console import print_json, print_next, print_table
    from rmatk.cli.parity import print_stages

    if as_json:
        print_json({"bundle": str(out), **msgspec.structs.asdict(report)})
        return
    print_stages(f"parity of {out} with PyTorch", report.stages)
    rows = [(name, f"{size / 1e6:.2f}") for name, size in report.sizes.items()]
    print_table(str(out), ("file", "MB"), [*rows, ("together", f"{sum(report.sizes.values()) / 1e6:.2f}")])
    if (chosen := report.quantisation) is not None:
        blocks = ", ".join(map(str, chosen.float_blocks)) or "none"
        typer.echo(
            f"int8: blocks left in float: {blocks}; accuracy on {chosen.images} shots "
            f"{chosen.accuracy_fp32:.1%} -> {chosen.accuracy_int8:.1%}"
        )
    if report.float32_products:
        typer.echo(f"fp16: products left in float32: {', '.join(report.float32_products)}")
    proof = report.proof
    kept = sum(place.where != "dropped" for place in proof.placements)
    typer.echo(
        f"{kept} adapter tensors are in the graphs; the reconstruction branch is in none of them: "
        f"{proof.parameters_dropped:,} parameters ({proof.bytes_saved / 1e6:.2f} MB) dropped"
    )
    print_next(
        f"rmatk infer {out} --camera 0", f"rmatk parity {out}    # on the device, once it is copied there"
    )
