"""``rmatk bench``: latency, throughput, memory, size and accuracy of a bundle's formats on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rmatk.cli import app, console
from rmatk.cli.echo import echo
from rmatk.cli.infer.options import BackendName
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_runtime.bench.measure import Bench, Row
    from rmatk_runtime.bundle import Bundle


@app.command()
def bench(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle written by rmatk export.", show_default=False)
    ],
    backend: Annotated[
        Literal[BackendName, "all"], typer.Option(metavar="NAME", help="The engine, as for infer, or all.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="NAME,...", help="fp32, fp16, int8, or all in the bundle.")
    ] = "all",
    batch: Annotated[str, typer.Option(metavar="N,...", help="Pictures at once.")] = "1",
    source: Annotated[
        str | None, typer.Option(metavar="FILE", help="A video, image or folder to decode.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Labelled photos, for accuracy.")] = None,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds measured per row.")] = 100,
    threads: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of ONNX Runtime on the CPU; 0: one per core that the CPU mask allows."
        ),
    ] = 0,
    warmup: Annotated[int, typer.Option(min=0, metavar="N", help="Rounds before them, not counted.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a bundle on this machine: every format side by side."""
    import msgspec

    from rmatk_runtime.bench.measure import BenchPictures, BenchPlan
    from rmatk_runtime.bench.measure import bench as measure
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.selection import BACKENDS

    sizes = _batches(batch)
    opened = Bundle.open(bundle)
    plan = BenchPlan(
        backends=tuple(name for name in BACKENDS if name != "auto") if backend == "all" else (backend,),
        precisions=_precisions(opened, precision),
        batches=sizes,
        repeats=repeats,
        warmup=warmup,
        threads=threads,
    )
    material = BenchPictures(opened, source, _photos(data))
    with console.progress_of("bench", quiet=as_json) as on_progress:
        found = measure(opened, plan, material, on_progress)
    if as_json:
        console.print_json({"bundle": str(bundle), **msgspec.to_builtins(found)})
    else:
        _print(found, bundle)


def _batches(text: str) -> tuple[int, ...]:
    """``1,4,8`` -> (1, 4, 8)."""
    sizes = [part.strip() for part in text.split(",")]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(f"--batch takes numbers from 1 on, such as 1,4,8, not {text!r}")
    return tuple(dict.fromkeys(map(int, sizes)))


def _precisions(bundle: Bundle, wanted: str) -> tuple[str, ...]:
    """``all``, or ``fp32,int8``: each must be in the bundle."""
    if wanted == "all":
        return tuple(graph.precision for graph in bundle.graphs())
    names = dict.fromkeys(name.strip() for name in wanted.split(","))
    return tuple(bundle.graph(name).precision for name in names)


def _photos(data: Path | None) -> list[tuple[Path, str]]:
    """Labelled photos; of a data set in parts, the test part."""
    from rmatk.data.formats import open_dataset

    if data is None:
        return []
    photos = open_dataset(data, "test")
    console.print_notes(photos)
    files, labels = photos.flat()
    return [(file, photos.class_names[label]) for file, label in zip(files, labels, strict=True)]


def _print(found: Bench, bundle: Path) -> None:
    """Formats side by side, then their stages, the machine, and what did not run."""
    from rmatk_runtime.bench.measure import STAGES

    machine = found.machine
    headings = ["engine", "MB", "batch", "p50", "p90", "p99", "per s", "engine per s", "load", "peak MB"]
    console.print_table(
        f"{bundle} on {found.pictures}: ms per batch",
        [*headings, *([f"accuracy on {found.photos} photos (95 %)"] if found.photos else [])],
        (_summary(row, found.photos) for row in found.rows),
    )
    stages = [name for name in STAGES if any(name in row.stages for row in found.rows)]
    console.print_table(
        "stages: ms per batch, p50 (p99)",
        ["engine", "batch", *stages],
        (_stages(row, stages) for row in found.rows),
    )
    for skipped in found.skipped:
        echo(f"not run: {skipped.backend} {skipped.precision}: {skipped.reason}")
    parts = [
        machine.cpu,
        f"{machine.cores} cores",
        machine.gpu,
        machine.board,
        machine.power_mode,
        machine.clocks,
    ]
    echo("on: " + ", ".join(part for part in parts if part))
    for remark in machine.remarks:
        echo(f"note: {remark}")
    console.print_next(command("rmatk", "parity", bundle))


def _summary(row: Row, photos: int) -> tuple[str, ...]:
    from rmatk_runtime.intervals import with_interval

    cells = (
        f"{row.engine} {row.precision}",
        f"{row.size / 1e6:.1f}",
        str(row.batch),
        *(f"{value:.2f}" for value in (row.total.p50, row.total.p90, row.total.p99)),
        f"{row.rate:.1f}",
        f"{row.engine_rate:.1f}",
        f"{row.load:.0f}",
        "" if row.peak is None else f"{row.peak / 1e6:.0f}",
    )
    return cells if row.accuracy is None else (*cells, with_interval(row.accuracy, photos))


def _stages(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    spreads = (row.stages.get(name) for name in names)
    cells = ("" if spread is None else f"{spread.p50:.2f} ({spread.p99:.2f})" for spread in spreads)
    return f"{row.engine} {row.precision}", str(row.batch), *cells
