"""A bundle -> TensorRT engines, each checked on this GPU where possible, and their table."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rmatk.cli.console import print_next, print_table, progress_of
from rmatk.cli.echo import echo
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_runtime.bundle.manifest import Precision
    from rmatk_runtime.errors import ParityError
    from rmatk_runtime.tensorrt.key import Flavour
    from rmatk_runtime.tensorrt.options import BuildOptions
    from rmatk_runtime.tensorrt.store import BuiltEngine


@dataclass
class Built:
    """The engines that were built and not refused, what kept them from being checked, what failed."""

    bundle: Path
    engines: list[BuiltEngine] = field(default_factory=list)
    unchecked: str | None = None
    failure: ParityError | None = None


def check(flavour: Flavour | Literal["auto"], options: BuildOptions) -> None:
    """Before any long work: TensorRT is here and can do what is asked for."""
    from rmatk_runtime.tensorrt.library import load_tensorrt
    from rmatk_runtime.tensorrt.machine import first_gpu
    from rmatk_runtime.tensorrt.options import check_options

    check_options(load_tensorrt(flavour), options, first_gpu())


def build(
    path: Path,
    precisions: tuple[Precision, ...],
    flavour: Flavour | Literal["auto"],
    options: BuildOptions,
    *,
    pixels: bool,
    trust: Path | None = None,
    quiet: bool,
) -> Built:
    """Build and check one engine per precision, two with ``pixels``; the first that fails parity ends it."""
    from rmatk.cli.logs import log_lines
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.engines import build_engines, why_unchecked
    from rmatk_runtime.errors import ParityError
    from rmatk_runtime.tensorrt.machine import this_machine

    bundle, built = Bundle.open(path, trust), Built(path)
    try:
        with log_lines(logging.WARNING), progress_of("engine", quiet=quiet) as on_progress:
            build_engines(
                bundle,
                options,
                precisions=precisions,
                pixels=pixels,
                flavour=flavour,
                on_progress=on_progress,
                on_built=built.engines.append,
            )
    except ParityError as error:
        built.failure = error
    reasons = (why_unchecked(bundle, engine, this_machine()) for engine in built.engines)
    built.unchecked = next((reason for reason in reasons if reason), None)
    return built


def record(built: Built) -> dict[str, Any]:
    """What ``--json`` prints of engines."""
    engines = [
        {"file": str(engine.path), **msgspec.structs.asdict(engine.sidecar)} for engine in built.engines
    ]
    return {"engines": engines, "unchecked": built.unchecked}


def show(built: Built) -> None:
    """One row per engine: its file, whether it was checked, and the next command."""
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
        echo(f"{engine.path} for {target(engine.key)}")
    if built.unchecked is None:
        print_next(command("rmatk", "infer", built.bundle, "--camera", 0))
        return
    echo(f"parity is still to be run on the device: {built.unchecked}")
    print_next(command("rmatk", "parity", built.bundle) + "    # on the device, once it is copied there")
