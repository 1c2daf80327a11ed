"""A run -> a bundle, and the report printed about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rmatk.cli.console import TRAINED_ON, print_next, print_stages, print_table, progress_of
from rmatk.cli.echo import echo
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_export.bundle_writer import ExportReport
    from rmatk_runtime.bundle.manifest import Golden, Precision


def export_run(
    run: Path,
    out: Path,
    *,
    data: Path | None,
    golden: int | Literal["rendered"] | None,
    precisions: tuple[Precision, ...],
    pixels: bool,
    quiet: bool,
) -> ExportReport:
    """Fold, write, check parity, publish; ``golden`` None checks on photos and ships none; a bar for int8."""
    from rmatk.api import export
    from rmatk.config import ExportConfig

    config = ExportConfig(precisions=precisions or ("fp32",), golden=golden, pixels=pixels)
    with progress_of("int8", quiet=quiet) as on_progress:
        return export(run, out, config, data=data, on_progress=on_progress)


class Former:
    """What was made in the bundle at ``out``, which an export replaces as a whole: its engines, and labels
    that ``rmatk labels`` changed."""

    def __init__(self, out: Path) -> None:
        from rmatk_runtime.errors import RmatkError
        from rmatk_runtime.tensorrt.store import ENGINES_FOLDER

        self._out = out
        try:
            self._labels = _labels(out)
        except RmatkError:  # there is none, or none that could be used
            self._labels = ()
        self._engines = len(list((out / ENGINES_FOLDER).glob("*.engine")))

    def lost(self) -> list[str]:
        """What is gone now, and the commands that bring it back."""
        out, now, notes = self._out, _labels(self._out), []
        if gone := [name for name in self._labels if name not in now]:
            again = command("rmatk", "labels", out, "add", gone[0])
            notes.append(f"labels of the former bundle are gone: {', '.join(gone)}; {again} brings one back")
        if self._engines:
            again = command("rmatk", "export", out, "--trt")
            notes.append(f"engines of the former bundle are gone: {self._engines}; {again} builds one")
        return notes


def _labels(bundle: Path) -> tuple[str, ...]:
    """The current labels; only the file that contains them is read."""
    from rmatk_runtime.bundle import Bundle, read_manifest

    return Bundle(bundle, read_manifest(bundle)).classes().names


def record(out: Path, report: ExportReport) -> dict[str, Any]:
    """What ``--json`` prints of a bundle."""
    from rmatk_runtime.bundle import read_manifest

    return {**msgspec.structs.asdict(report), "golden": read_manifest(out).golden}


def show(out: Path, report: ExportReport) -> None:
    """Parity, files, where the trained tensors went, and whose pictures travel."""
    from rmatk_runtime.bundle import read_manifest
    from rmatk_runtime.intervals import with_interval

    print_stages(f"parity of {out} with PyTorch", report.stages, TRAINED_ON)
    rows = [(name, f"{size / 1e6:.2f}") for name, size in report.sizes.items()]
    print_table(str(out), ("file", "MB"), [*rows, ("together", f"{sum(report.sizes.values()) / 1e6:.2f}")])
    if (chosen := report.quantisation) is not None:
        rest = f"; in float: {', '.join(chosen.float_products)}" if chosen.float_products else ""
        shots = "validation" if chosen.held_out else "training"
        echo(
            f"int8: {chosen.int8_share:.0%} of the blocks' multiplications{rest}\n"
            f"int8: {chosen.expected_changes:.1%} of labels are expected to change; accuracy on "
            f"{chosen.images} {shots} photos {with_interval(chosen.accuracy_fp32, chosen.images)} -> "
            f"{with_interval(chosen.accuracy_int8, chosen.images)}"
        )
        if not chosen.held_out:
            echo("int8: no validation images, so the estimate uses training images and is too low")
    if report.float32_products:
        echo(f"fp16: products left in float32: {', '.join(report.float32_products)}")
    proof = report.proof
    kept = sum(place.where != "dropped" for place in proof.placements)
    echo(
        f"{kept} adapter tensors are in the graphs; the reconstruction branch is in none of them: "
        f"{proof.parameters_dropped:,} parameters ({proof.bytes_saved / 1e6:.2f} MB) dropped"
    )
    echo(_golden(read_manifest(out).golden, report.sizes))


def _golden(golden: Golden | None, sizes: dict[str, int]) -> str:
    """Whose pictures are in the bundle, so that nobody hands on photos without knowing."""
    if golden is None:
        return "the bundle contains no pictures, so the device cannot check itself: see --golden rendered"
    size = f"{golden.images} {{}} ({golden.file}, {sizes[golden.file] / 1e6:.2f} MB)"
    if golden.source == "rendered":
        return f"the bundle contains {size.format('rendered pictures')}, and none of your photos"
    return (
        f"the bundle contains {size.format('of your own training photos')}, readable by whoever has it; "
        "to leave them out: --golden rendered, or --golden none"
    )


def print_next_steps(out: Path) -> None:
    """What to do with a bundle; one without golden set cannot check itself."""
    from rmatk_runtime.bundle import read_manifest

    check = command("rmatk", "parity", out) + "    # on the device, once it is copied there"
    print_next(command("rmatk", "infer", out, "--camera", 0), *([check] if read_manifest(out).golden else []))
