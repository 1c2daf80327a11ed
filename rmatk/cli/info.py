"""``rmatk info``: what is inside a bundle or a run, and where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmatk.cli import app


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A bundle or a run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify a bundle or a run and say what it holds."""
    if (path / "run.json").is_file():
        _show_run(path, as_json)
    else:
        _show_bundle(path, as_json)


def _show_bundle(path: Path, as_json: bool) -> None:
    from rmatk.cli.console import print_json, print_next, print_table
    from rmatk_runtime.bundle import Bundle

    bundle = Bundle.open(path)
    manifest = bundle.manifest
    names = bundle.classes().names
    if as_json:
        print_json({"kind": "bundle", "classes": names, "manifest": manifest})
        return
    spec, decision, golden = manifest.preprocess, manifest.decision, manifest.golden
    threshold = decision.reject_threshold
    doubt = "; fitted before the labels were changed, may not suit" if decision.labels_changed else ""
    rows = [
        ("model", f"{manifest.model.name} ({manifest.model.pretrained or 'own weights'})"),
        ("backbone digest", manifest.model.backbone_digest[:16]),
        ("classes", f"{len(names)}: {', '.join(names)}"),
        ("prompts", " | ".join(manifest.labels.templates)),
        (
            "image graphs",
            ", ".join(f"{graph.precision} on {graph.input} ({graph.file})" for graph in manifest.graphs),
        ),
        ("text encoder", f"{manifest.text.file}, {manifest.text.context_length} tokens"),
        ("input", f"{spec.width}x{spec.height}, {spec.resize_mode}, {spec.interpolation}"),
        ("logit scale", f"{decision.logit_scale:.4g}, temperature {decision.temperature:.4g}"),
        ("reject below", ("never" if threshold is None else f"{threshold:.3f}") + doubt),
        ("golden set", "none" if golden is None else f"{golden.images} pictures ({golden.source})"),
        ("run digest", manifest.provenance.run_digest[:16]),
        ("created", manifest.provenance.created),
        ("size", f"{sum(entry.size for entry in manifest.files.values()) / 1e6:.2f} MB, every file verified"),
    ]
    print_table(str(path), ("bundle", ""), rows, text=True)
    print_next(f"rmatk infer {path} --camera 0")


def _show_run(path: Path, as_json: bool) -> None:
    from rmatk.cli.console import print_json, print_next, print_table
    from rmatk.run import load_run

    record = load_run(path).record
    if as_json:
        print_json({"kind": "run", "record": record})
        return
    config, metrics = record.config, record.metrics
    rows = [
        ("model", f"{config.model} ({config.pretrained or 'own weights'})"),
        ("backbone digest", record.backbone_digest[:16]),
        ("classes", f"{len(record.class_names)}: {', '.join(record.class_names)}"),
        ("photos", f"{len(record.train_files)} to train, {len(record.validation_files)} to validate"),
        ("shots, seed", f"{config.shots}, {config.seed}"),
        ("training accuracy", f"{metrics.train_accuracy:.1%}"),
        ("adapter", f"sha256 {record.adapter_sha256[:16]}, verified"),
    ]
    print_table(str(path), ("run", ""), rows, text=True)
    print_next(f"rmatk export {path} -o BUNDLE")
