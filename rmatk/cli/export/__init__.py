"""``rmatk export``: a run -> a checked bundle; a bundle -> engines, server files."""

from __future__ import annotations

from typing import Any

import typer

from rmatk.cli import app
from rmatk.cli.echo import echo
from rmatk.cli.export import options as opt
from rmatk.cli.infer.options import Trust


@app.command()
def export(
    context: typer.Context,
    source: opt.SourceArgument,
    out: opt.Out = None,
    data: opt.Data = None,
    golden: opt.Golden = "32",
    precision: opt.Precisions = None,
    pixels: opt.Pixels = False,
    trt: opt.Trt = False,
    flavour: opt.FlavourName = "auto",
    batch: opt.Batch = "1:1:8",
    workspace: opt.Workspace = None,
    timing_cache: opt.TimingCache = None,
    refit: opt.Refit = False,
    hardware_compat: opt.HardwareCompat = "none",
    version_compat: opt.VersionCompat = False,
    compute_capability: opt.ComputeCapability = None,
    triton: opt.TritonFolder = None,
    triton_backend: opt.TritonBackend = "onnxruntime",
    name: opt.Name = None,
    deepstream: opt.DeepStream = None,
    trust: Trust = None,
    as_json: opt.Json = False,
) -> None:
    """Turn a run into a bundle, a bundle into engines and server files.

    Adapters are folded into ONNX graphs; a bundle that does not agree with PyTorch is not written.
    """
    from rmatk.cli.console import print_json
    from rmatk.cli.export import engines, run, servers
    from rmatk_runtime.tensorrt.options import BuildOptions

    opt.check_together(context, source)
    precisions, count = opt.parse_precisions(precision), opt.parse_golden(golden)
    build = BuildOptions(
        batch=opt.parse_batch(batch),
        workspace=workspace,
        timing_cache=timing_cache,
        refit=refit,
        hardware_compat=opt.parse_hardware(hardware_compat),
        version_compat=version_compat,
        compute_capabilities=opt.parse_capabilities(compute_capability),
    )
    wanted_flavour = opt.parse_flavour(flavour)
    if trt:
        engines.check(wanted_flavour, build)
    bundle, built = out or source, None
    wanted = servers.Wanted(triton, opt.parse_triton_backend(triton_backend), name, deepstream, build.batch)
    wanted.check(bundle)
    record: dict[str, Any] = {"bundle": str(bundle)}
    if out is not None:
        former = run.Former(out)
        report = run.export_run(
            source, out, data=data, golden=count, precisions=precisions, pixels=pixels, quiet=as_json
        )
        lost = former.lost()
        record |= run.record(out, report) | {"lost": lost}
        if not as_json:
            run.show(out, report)
            for note in lost:
                echo(f"note: {note}")
    if trt:
        built = engines.build(
            bundle, precisions, wanted_flavour, build, pixels=pixels, trust=trust, quiet=as_json
        )
        record |= engines.record(built)
        if not as_json:
            engines.show(built)
    if wanted and (built is None or built.failure is None):
        served = servers.write(bundle, precisions[0] if precisions else None, wanted)
        record |= servers.record(served)
        if not as_json:
            servers.show(served)
    if as_json:
        print_json(record)
    elif built is None and not wanted:
        run.print_next_steps(bundle)
    if built is not None and built.failure is not None:
        raise built.failure
