"""``rmatk info``: the contents and provenance of a bundle or a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmatk.cli import app
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.pictures.preprocess import PreprocessSpec
    from rmatk_runtime.tensorrt.store import FoundEngine


@app.command()
def info(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A bundle or a run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify a bundle or a run and show its contents."""
    from rmatk_runtime.bundle.manifest import MANIFEST
    from rmatk_runtime.errors import BundleError

    if (path / "run.json").is_file():
        _show_run(path, as_json)
    elif (path / MANIFEST).is_file():
        _show_bundle(path, as_json)
    else:
        raise BundleError(
            f"expected a bundle or a run, found no {MANIFEST} and no run.json in {path}",
            "rmatk train DATA -o RUN makes a run, rmatk export RUN -o BUNDLE a bundle of it",
        )


def _show_bundle(path: Path, as_json: bool) -> None:
    from rmatk.cli.console import print_json, print_next, print_table
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.tensorrt.store import survey

    bundle = Bundle.open(path)
    manifest = bundle.manifest
    names = bundle.classes().names
    engines = survey(bundle)
    if as_json:
        print_json(
            {
                "kind": "bundle",
                "classes": names,
                "manifest": manifest,
                "golden": _golden_record(bundle),
                "engines": _engine_records(engines),
            }
        )
        return
    spec, decision = manifest.preprocess, manifest.decision
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
        *(("engine", _describe(found)) for found in engines),
        ("text encoder", f"{manifest.text.file}, {manifest.text.context_length} tokens"),
        ("input", _input(spec)),
        ("logit scale", f"{decision.logit_scale:.4g}, temperature {decision.temperature:.4g}"),
        ("reject below", ("never" if threshold is None else f"{threshold:.3f}") + doubt),
        ("golden set", _golden(_golden_record(bundle), len(names))),
        ("run digest", manifest.provenance.run_digest[:16]),
        ("created", manifest.provenance.created),
        ("size", f"{sum(entry.size for entry in manifest.files.values()) / 1e6:.2f} MB, every file verified"),
    ]
    print_table(str(path), ("bundle", ""), rows, text=True)
    print_next(command("rmatk", "infer", path, "--camera", 0))


def _input(spec: PreprocessSpec) -> str:
    """Size and manner of the exact resize, and how 16-bit greyscale is read."""
    text = f"{spec.width}x{spec.height}, {spec.resize_mode}, {spec.interpolation}, horizontal pass first"
    if spec.stretch is None:
        return text
    levels = (
        "each picture's range" if spec.stretch == "auto" else f"levels {spec.stretch[0]} to {spec.stretch[1]}"
    )
    return f"{text}; 16-bit grey: {levels}"


def _golden_record(bundle: Bundle) -> dict[str, Any] | None:
    """What the golden set contains, and which errors it can reveal with the current labels."""
    entry, golden = bundle.manifest.golden, bundle.golden()
    if entry is None or golden is None:
        return None
    answers = golden.answers(bundle.classes(), bundle.manifest.decision)
    return {
        "source": entry.source,
        "images": len(golden.images),
        "bytes": bundle.manifest.files[entry.file].size,
        "answers": answers.classes,
        "smallest_margin": answers.smallest_margin,
    }


def _golden(record: dict[str, Any] | None, classes: int) -> str:
    if record is None:
        return "none: this bundle cannot check itself on a device"
    kind = {"photos": "of the user's own photos", "rendered": "rendered pictures, no photos"}
    return (
        f"{record['images']} {kind[record['source']]}, {record['bytes'] / 1e6:.2f} MB; PyTorch answers with "
        f"{len(record['answers'])} of {classes} classes, smallest margin {record['smallest_margin']:.2%}"
    )


def _engine_records(engines: list[FoundEngine]) -> list[dict[str, Any]]:
    return [
        {
            "file": str(found.path),
            "usable": found.usable,
            "reasons": found.reasons,
            "sidecar": found.engine and found.engine.sidecar,
        }
        for found in engines
    ]


def _describe(found: FoundEngine) -> str:
    """What an engine is for, whether it was checked, and whether it may be used here."""
    from rmatk_runtime.tensorrt.key import target

    state = "usable here" if found.usable else f"not usable here: {'; '.join(found.reasons)}"
    if found.engine is None:
        return f"{found.path.name}; {state}"
    key, sidecar = found.engine.key, found.engine.sidecar
    parity = "parity ok" if sidecar.parity else "parity not checked"
    kind = f"{key.precision} on {key.input}, batch {key.batch}, {sidecar.size / 1e6:.2f} MB, {parity}"
    return f"{kind}, for {target(key)}; {state}"


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
        (
            "accuracy on training photos",
            _gain(metrics.train_accuracy, metrics.train_zero_shot_accuracy, len(record.train_files)),
        ),
        (
            "on validation photos",
            _gain(
                metrics.validation_accuracy,
                metrics.validation_zero_shot_accuracy,
                len(record.validation_files),
            ),
        ),
        ("adapter", f"sha256 {record.adapter_sha256[:16]}, verified"),
    ]
    print_table(str(path), ("run", ""), rows, text=True)
    print_next(command("rmatk", "export", path, "-o", "BUNDLE"))


def _gain(adapted: float | None, zero_shot: float | None, images: int) -> str:
    """``66.7%, zero-shot 33.3%`` with their intervals; without validation shots there is none."""
    from rmatk_runtime.intervals import with_interval

    if adapted is None or zero_shot is None:
        return "no photos were left for it"
    return f"{with_interval(adapted, images)}, zero-shot {with_interval(zero_shot, images)} of {images}"
