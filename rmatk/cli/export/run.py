"""A run -> a bundle, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from rmatk.cli.console import print_next, print_table

if TYPE_CHECKING:
    from rmatk_export.bundle import ExportReport
    from rmatk_runtime.manifest import Precision


def export_run(
    run: Path,
    out: Path,
    *,
    data: Path | None,
    golden: int | None,
    precisions: tuple[Precision, ...],
    pixels: bool,
) -> ExportReport:
    """Fold, write, check parity, publish; ``golden`` None ships no golden set."""
    from rmatk.backbone import load_backbone
    from rmatk.deploy import export_source
    from rmatk.run import load_run
    from rmatk_export.bundle import write_bundle

    loaded = load_run(run)
    config = loaded.record.config
    source = export_source(
        loaded,
        load_backbone(config.model, config.pretrained),
        data=data,
        golden=golden,
        ship=golden is not None,
        precisions=precisions or ("fp32",),
        pixels=pixels,
    )
    return write_bundle(source, out)


def record(report: ExportReport) -> dict[str, Any]:
    """What ``--json`` prints of a bundle."""
    return msgspec.structs.asdict(report)


def show(out: Path, report: ExportReport) -> None:
    """Parity, files, and where the trained tensors went."""
    from rmatk.cli.parity import print_stages

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


def print_next_steps(out: Path) -> None:
    """What to do with a bundle."""
    print_next(
        f"rmatk infer {out} --camera 0",
        f"rmatk parity {out}    # on the device, once it is copied there",
    )
