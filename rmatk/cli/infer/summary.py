"""The summary of a run, as a table or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmatk.cli import console
from rmatk.cli.echo import echo
from rmatk_runtime.errors import command
from rmatk_runtime.pictures.fast_resize import describe

if TYPE_CHECKING:
    from rmatk.cli.infer.outputs import Outputs
    from rmatk_runtime.inference.classifier import Classifier
    from rmatk_runtime.inference.summary import CameraSummary, Summary


def report(summary: Summary, bundle: Path, classifier: Classifier, uris: list[str], outputs: Outputs) -> None:
    """Print the summary, in the form that its outputs allow."""
    engine = classifier.backend.name
    if classifier.resizing != "exact":
        engine += f", resize {describe(classifier.resizing)}"
    if outputs.as_json:
        console.print_json(record(summary, bundle, classifier, outputs.written))
    elif outputs.on_stdout:
        echo(headline(summary, engine), err=True)
    else:
        print_summary(summary, bundle, engine, uris, outputs.written)


def record(summary: Summary, bundle: Path, classifier: Classifier, outputs: dict[str, str]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    import msgspec

    return {
        "bundle": str(bundle),
        "backend": classifier.backend.name,
        "resize": describe(classifier.resizing),
        **msgspec.to_builtins(summary),
        "rate": _rate(summary),
        "outputs": outputs,
    }


def print_summary(
    summary: Summary, bundle: Path, engine: str, uris: list[str], outputs: dict[str, str]
) -> None:
    """A short table, where the results lie, and the next command."""
    from rmatk_runtime.sources.credentials import without_credentials

    results = sum(summary.labels.values()) + summary.rejected
    rows = [(label, str(count), f"{count / results:.1%}") for label, count in summary.labels.items()]
    if summary.rejected:
        rows.append(("(unsure)", str(summary.rejected), f"{summary.rejected / results:.1%}"))
    echo(headline(summary, engine))
    if rows:
        console.print_table("labels seen", ("label", "frames", "share"), rows)
    if summary.cameras:
        console.print_table("cameras", _CAMERA, [_camera_row(*each) for each in summary.cameras.items()])
    for name, labels in summary.regions.items():
        seen = ", ".join(f"{label or '(unsure)'} {count}" for label, count in labels.items())
        echo(f"region {name}: {seen}")
    if summary.latency is not None:
        echo(
            "from capture to result: p50 {p50} ms, p90 {p90} ms, p99 {p99} ms".format(**vars(summary.latency))
        )
    for kind, path in outputs.items():
        echo(f"{kind}: {path}")
    if outputs:
        console.print_next(command("rmatk", "parity", bundle))
    else:
        wanted = ["--jsonl", "predictions.jsonl", "--video", "annotated.mp4"]
        console.print_next(command("rmatk", "infer", bundle, *map(without_credentials, uris), *wanted))


_CAMERA = ("camera", "state", "frames", "dropped", "damaged", "frozen s", "p50 ms", "p99 ms", "mostly")


def _camera_row(name: str, camera: CameraSummary) -> tuple[str, ...]:
    """What one camera came to."""
    latency = ("", "") if camera.latency is None else (f"{camera.latency.p50}", f"{camera.latency.p99}")
    counts = map(str, (camera.frames, camera.dropped, camera.damaged))
    mostly = next(iter(camera.labels), "")
    return (name, camera.state, *counts, f"{camera.frozen:.0f}", *latency, mostly)


def headline(summary: Summary, engine: str) -> str:
    """``132 frames in 1.6 s (82.5 per second) on ENGINE``, with what went missing."""
    text = f"{summary.frames} frames in {summary.seconds:.1f} s ({_rate(summary):.1f} per second) on {engine}"
    if summary.damaged:
        text += f"; {summary.damaged} unreadable, skipped"
    if summary.dropped:
        text += f"; {summary.dropped} dropped for newer ones"
    if summary.out_of_range:
        text += f"; {summary.out_of_range} out of range"
    if summary.frozen:
        text += f"; the picture stood still for {summary.frozen:.0f} s"
    return text + (f"; {summary.ended}" if summary.ended else "")


def _rate(summary: Summary) -> float:
    """Results per second of wall clock."""
    return round(summary.frames / summary.seconds, 3) if summary.seconds else 0.0
