"""``rmatk infer``: a bundle on images, videos, cameras and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmatk.cli import app, console

if TYPE_CHECKING:
    from rmatk_runtime.frames import Frame, Prediction
    from rmatk_runtime.loop import Summary
    from rmatk_runtime.sinks import Sink
    from rmatk_runtime.sources import SourceInfo

FILE_BATCH = 8

_Bundle = Annotated[Path, typer.Argument(help="A bundle written by rmatk export.", show_default=False)]
_Inputs = Annotated[list[str] | None, typer.Argument(help="Images, folders, globs, videos.")]
_Camera = Annotated[str | None, typer.Option(help="0, /dev/video0, rtsp://..., http://... or test://")]
_Jsonl = Annotated[str | None, typer.Option(metavar="FILE", help="JSON lines; - is standard output.")]
_Csv = Annotated[Path | None, typer.Option(metavar="FILE", help="A table for spreadsheets.")]
_Video = Annotated[Path | None, typer.Option(metavar="FILE", help="Annotated video (.mp4).")]
_Images = Annotated[Path | None, typer.Option(metavar="DIR", help="Annotated images.")]
_TopK = Annotated[int, typer.Option(min=1, help="Labels per frame.")]
_Threshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="Reject below this probability; the bundle's own if unset.")
]
_Every = Annotated[int, typer.Option(min=1, help="Classify every N-th frame.")]
_MaxFrames = Annotated[int | None, typer.Option(min=1, help="Stop after so many results.")]
_Batch = Annotated[
    int | None, typer.Option(min=1, help=f"Frames at once; if unset {FILE_BATCH} for files, 1 live.")
]
_Backend = Annotated[str, typer.Option(help="The engine: auto, cpu, cuda.")]
_Precision = Annotated[str | None, typer.Option(help="fp32, fp16 or int8; the bundle's first if unset.")]
_AllowCpu = Annotated[bool, typer.Option("--allow-cpu", help="Accept the CPU where the GPU cannot start.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]


@app.command()
def infer(
    bundle: _Bundle,
    inputs: _Inputs = None,
    camera: _Camera = None,
    jsonl: _Jsonl = None,
    csv: _Csv = None,
    video: _Video = None,
    images: _Images = None,
    top_k: _TopK = 3,
    threshold: _Threshold = None,
    every: _Every = 1,
    max_frames: _MaxFrames = None,
    batch: _Batch = None,
    backend: _Backend = "auto",
    precision: _Precision = None,
    allow_cpu: _AllowCpu = False,
    as_json: _Json = False,
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
    with _one_interrupt(), engine as classifier, open_source(*uris) as source:
        # Outputs are opened last: a mistyped bundle or input must not empty yesterday's results
        sinks = _open_sinks(outputs, source.info, lines=lines)
        size = batch or (1 if source.info.live else FILE_BATCH)
        with _progress(source.info, every, max_frames, quiet=as_json or lines) as on_frame:
            summary = run(
                source, classifier, sinks, batch=size, every=every, max_frames=max_frames, on_frame=on_frame
            )
    if as_json:
        console.print_json(_record(summary, bundle, classifier.backend.name, outputs))
    elif jsonl == "-":
        typer.echo(_headline(summary, classifier.backend.name), err=True)
    else:
        _print_summary(summary, bundle, classifier.backend.name, uris, outputs)
    if summary.interrupted:
        raise typer.Exit(130)


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Let the first Ctrl-C end the run, and no second one cut short the closing of its files.

    Two in a row are common: ``timeout`` and other wrappers signal the process and then its group.
    """
    import signal

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:  # ignored in the background, or someone else's
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _open_sinks(outputs: dict[str, str], info: SourceInfo, *, lines: bool) -> list[Sink]:
    """The sinks asked for; where one cannot be opened, those opened before are closed again."""
    from rmatk_runtime.sinks import CsvSink, ImagesSink, JsonlSink, TerminalSink, VideoSink

    makers: dict[str, Callable[[str], Sink]] = {
        "jsonl": JsonlSink,
        "csv": CsvSink,
        "video": lambda path: VideoSink(Path(path), rate=info.rate),
        "images": lambda path: ImagesSink(Path(path)),
    }
    with ExitStack() as stack:
        sinks: list[Sink] = [stack.enter_context(makers[kind](path)) for kind, path in outputs.items()]
        if lines and not outputs:
            sinks.append(TerminalSink())
        stack.pop_all()
    return sinks


@contextmanager
def _progress(
    info: SourceInfo, every: int, max_frames: int | None, *, quiet: bool
) -> Iterator[Callable[[Frame, Prediction], None]]:
    """A progress bar; yields what the loop calls after each result."""
    total = None if info.frames is None else -(-info.frames // every)
    if max_frames is not None:
        total = max_frames if total is None else min(total, max_frames)
    with console.progress_bar(quiet=quiet) as bar:
        task = bar.add_task("infer", total=total, note="")

        def advance(frame: Frame, prediction: Prediction) -> None:
            bar.update(task, advance=1, note=prediction.label or "unsure")

        yield advance


def _record(summary: Summary, bundle: Path, engine: str, outputs: dict[str, str]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    import msgspec

    return {
        "bundle": str(bundle),
        "backend": engine,
        **msgspec.to_builtins(summary),
        "rate": _rate(summary),
        "outputs": outputs,
    }


def _print_summary(
    summary: Summary, bundle: Path, engine: str, uris: list[str], outputs: dict[str, str]
) -> None:
    """A short table, where the results lie, and the next command."""
    import shlex

    from rmatk_runtime.sources.camera import without_credentials

    rows = [(label, str(count), f"{count / summary.frames:.1%}") for label, count in summary.labels.items()]
    if summary.rejected:
        rows.append(("(unsure)", str(summary.rejected), f"{summary.rejected / summary.frames:.1%}"))
    typer.echo(_headline(summary, engine))
    if rows:
        console.print_table("labels seen", ("label", "frames", "share"), rows)
    for kind, path in outputs.items():
        typer.echo(f"{kind}: {path}")
    if outputs:
        console.print_next(shlex.join(["rmatk", "parity", str(bundle)]))
    else:
        wanted = ["--jsonl", "predictions.jsonl", "--video", "annotated.mp4"]
        console.print_next(
            shlex.join(["rmatk", "infer", str(bundle), *map(without_credentials, uris), *wanted])
        )


def _headline(summary: Summary, engine: str) -> str:
    """``132 frames in 1.6 s (82.5 per second) on ENGINE``, with what went missing."""
    text = f"{summary.frames} frames in {summary.seconds:.1f} s ({_rate(summary):.1f} per second) on {engine}"
    if summary.skipped:
        text += f"; {summary.skipped} unreadable, skipped"
    return text + ("; interrupted" if summary.interrupted else "")


def _rate(summary: Summary) -> float:
    """Results per second of wall clock."""
    return round(summary.frames / summary.seconds, 3) if summary.seconds else 0.0
