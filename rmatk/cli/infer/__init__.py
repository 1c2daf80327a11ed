"""``rmatk infer``: a bundle on images, videos, cameras and streams."""

from __future__ import annotations

import typer

from rmatk.cli import app, console
from rmatk.cli.infer import options as opt
from rmatk.cli.infer.outputs import open_sinks
from rmatk.cli.infer.progress import progress
from rmatk.cli.infer.signals import one_interrupt
from rmatk.cli.infer.summary import headline, print_summary, record


@app.command()
def infer(
    bundle: opt.Bundle,
    inputs: opt.Inputs = None,
    camera: opt.Camera = None,
    jsonl: opt.Jsonl = None,
    csv: opt.Csv = None,
    video: opt.Video = None,
    images: opt.Images = None,
    top_k: opt.TopK = 3,
    threshold: opt.Threshold = None,
    every: opt.Every = 1,
    max_frames: opt.MaxFrames = None,
    batch: opt.Batch = None,
    backend: opt.Backend = "auto",
    precision: opt.Precision = None,
    allow_cpu: opt.AllowCpu = False,
    as_json: opt.Json = False,
) -> None:
    """Classify images, videos or a camera with a bundle."""
    uris = [*(inputs or ()), *([camera] if camera else ())]
    if not uris:
        raise typer.BadParameter("give images, folders or videos to look at, or --camera URI")
    if as_json and jsonl == "-":
        raise typer.BadParameter("--json and --jsonl - both write to standard output; choose one")

    from rmatk_runtime.classifier import Classifier
    from rmatk_runtime.loop import run
    from rmatk_runtime.sources import open_source

    asked = {"jsonl": jsonl, "csv": csv, "video": video, "images": images}
    outputs = {kind: str(path) for kind, path in asked.items() if path is not None}
    lines = jsonl == "-" or not (outputs or as_json)  # standard output carries a line per frame
    engine = Classifier.open(
        bundle,
        backend=backend,
        precision=precision,
        allow_cpu=allow_cpu,
        top_k=top_k,
        threshold=threshold,
    )
    with one_interrupt(), engine as classifier, open_source(*uris) as source:
        # Outputs are opened last: a mistyped bundle or input must not empty yesterday's results
        sinks = open_sinks(outputs, source.info, lines=lines)
        size = batch or (1 if source.info.live else opt.FILE_BATCH)
        with progress(source.info, every, max_frames, quiet=as_json or lines) as on_frame:
            summary = run(
                source, classifier, sinks, batch=size, every=every, max_frames=max_frames, on_frame=on_frame
            )
    if as_json:
        console.print_json(record(summary, bundle, classifier.backend.name, outputs))
    elif jsonl == "-":
        typer.echo(headline(summary, classifier.backend.name), err=True)
    else:
        print_summary(summary, bundle, classifier.backend.name, uris, outputs)
    if summary.interrupted:
        raise typer.Exit(130)
