"""A bundle -> TensorRT engines, each checked on this GPU where possible, and their table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import typer

from rmatk.cli.console import print_next, print_table, progress_bar
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.bundle.manifest import Graph, Input, Precision
    from rmatk_runtime.errors import ParityError
    from rmatk_runtime.tensorrt.key import Flavour
    from rmatk_runtime.tensorrt.library import TensorRt
    from rmatk_runtime.tensorrt.options import BuildOptions
    from rmatk_runtime.tensorrt.store import BuiltEngine


@dataclass
class Built:
    """The engines that were built and not refused, what kept them from being checked, what failed."""

    bundle: Path
    engines: list[BuiltEngine] = field(default_factory=list)
    unchecked: str | None = None
    failure: ParityError | None = None


def load(flavour: Flavour | Literal["auto"], options: BuildOptions) -> TensorRt:
    """The TensorRT to build with, once it is known to do what was asked for."""
    from rmatk_runtime.tensorrt.library import load_tensorrt
    from rmatk_runtime.tensorrt.machine import first_gpu
    from rmatk_runtime.tensorrt.options import objections

    trt = load_tensorrt(flavour)
    if refused := objections(trt, options, first_gpu()):
        raise typer.BadParameter("; ".join(refused))
    return trt


def build(
    path: Path,
    precisions: tuple[Precision, ...],
    trt: TensorRt,
    options: BuildOptions,
    *,
    pixels: bool,
    quiet: bool,
) -> Built:
    """Build and check one engine per precision, two with ``pixels``; the first that fails parity ends it."""
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.engine_check import why_unchecked
    from rmatk_runtime.errors import ParityError
    from rmatk_runtime.tensorrt.machine import this_machine

    bundle, here = Bundle.open(path), this_machine()
    kinds: tuple[Input, ...] = ("images", "pixels") if pixels else ("images",)
    graphs = [bundle.graph(name, kind) for name in precisions or (None,) for kind in kinds]
    _warn(trt.version, here.compute_capability)
    built = Built(path)
    for graph in graphs:
        engine = _build(bundle, graph, trt, options, quiet=quiet)
        built.unchecked = why_unchecked(bundle, engine, here)
        if built.unchecked is None:
            try:
                engine = _check(bundle, engine)
            except ParityError as error:
                built.failure = error
                break
        built.engines.append(engine)
    return built


def _build(bundle: Bundle, graph: Graph, trt: TensorRt, options: BuildOptions, *, quiet: bool) -> BuiltEngine:
    """One engine, with a bar of per cent and TensorRT's own name for what it is at."""
    from rmatk_runtime.tensorrt.build import build_engine
    from rmatk_runtime.tensorrt.machine import first_gpu

    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task(f"{graph.precision} on {graph.input}", total=100, note="")

        def advance(share: float, phase: str) -> None:
            bar.update(task, completed=int(100 * share), note=phase)

        return build_engine(bundle, graph, trt, options, gpu=first_gpu(), on_progress=advance)


def _check(bundle: Bundle, engine: BuiltEngine) -> BuiltEngine:
    from rmatk_runtime.engine_check import check_engine
    from rmatk_runtime.tensorrt.backend import TensorRtBackend

    return check_engine(bundle, engine, TensorRtBackend.open)


def _warn(version: str, capability: str | None) -> None:
    """Say before the long work that this TensorRT is known for wrong numbers."""
    from rmatk_runtime.tensorrt.versions import known_bad

    if (row := known_bad(version, capability)) is not None:
        typer.echo(f"warning: {row.warning(version)}", err=True)


def record(built: Built) -> dict[str, Any]:
    """What ``--json`` prints of engines."""
    engines = [
        {"file": str(engine.path), **msgspec.structs.asdict(engine.sidecar)} for engine in built.engines
    ]
    return {"engines": engines, "unchecked": built.unchecked}


def show(built: Built) -> None:
    """One row per engine, where it lies, whether it was checked, and the next command."""
    from rmatk_runtime.tensorrt.key import target

    if not built.engines:
        return
    rows = []
    for engine in built.engines:
        sidecar, key = engine.sidecar, engine.key
        figures = (f"{sidecar.size / 1e6:.2f}", f"{sidecar.seconds:.1f}", str(sidecar.layers))
        parity = "ok" if sidecar.parity else "not yet"
        rows.append((f"{key.precision} on {key.input}", str(key.batch), *figures, parity))
    headings = ("engine", "batch", "MB", "seconds", "layers", "parity")
    print_table(f"engines of {built.bundle}", headings, rows)
    for engine in built.engines:
        typer.echo(f"{engine.path} for {target(engine.key)}")
    if built.unchecked is None:
        print_next(command("rmatk", "infer", built.bundle, "--camera", 0))
        return
    typer.echo(f"parity is still to be run on the device: {built.unchecked}")
    print_next(command("rmatk", "parity", built.bundle) + "    # on the device, once it is copied there")
