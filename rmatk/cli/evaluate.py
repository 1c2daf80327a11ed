"""``rmatk eval``: the accuracy of a run on photos, or a comparison of methods under a protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rmatk.cli import app
from rmatk.cli.echo import echo
from rmatk.cli.given import flags, given
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk.evaluation.accuracy import EvalReport

_Run = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="A run folder, written by rmatk train.", show_default=False),
]
_Photos = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Labelled photos, classes named as in training.", show_default=False),
]
_Protocol = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Compare methods: few-shot, base-to-new, cross-dataset or domain."),
]
_Source = Annotated[
    Path | None,
    typer.Option("--data", metavar="DATA", help="Data that a comparison trains and tests on."),
]
_Target = Annotated[
    list[Path] | None, typer.Option(metavar="DATA", help="Further data to test on; repeatable.")
]
_Seeds = Annotated[str, typer.Option(metavar="N,...", help="One draw of shots and one training each.")]
_Methods = Annotated[
    str, typer.Option(metavar="NAME,...", help="Methods to compare; an unknown name lists all.")
]
_Csv = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures of every seed.")]
_Markdown = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table.")]
_MaxBad = Annotated[
    float,
    typer.Option(min=0, max=1, metavar="SHARE", help="Share of DATA that may be unreadable; it is listed."),
]
_Int = Annotated[int | None, typer.Option(metavar="N", help="As in rmatk train.", show_default=False)]
_Float = Annotated[float | None, typer.Option(metavar="X", help="As in rmatk train.", show_default=False)]
_Text = Annotated[str | None, typer.Option(metavar="NAME", help="As in rmatk train.", show_default=False)]
_Optimizer = Annotated[
    Literal["adamw", "sgd"] | None,
    typer.Option(metavar="NAME", help="As in rmatk train.", show_default=False),
]
_Template = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="As in rmatk train; by default a benchmark's own.")
]

_OF_A_RUN = ("max_bad",)
_OF_BOTH = ("run", "data", "source", "protocol", "batch", "class_names", "device", "as_json")


@app.command("eval")
def evaluate(
    context: typer.Context,
    run: _Run = None,
    data: _Photos = None,
    protocol: _Protocol = None,
    source: _Source = None,
    target: _Target = None,
    seeds: _Seeds = "1,2,3",
    methods: _Methods = "zero-shot,adapter-only,rmadapter",
    csv: _Csv = None,
    markdown: _Markdown = None,
    max_bad: _MaxBad = 0.0,
    model: _Text = None,
    pretrained: _Text = None,
    shots: _Int = None,
    epochs: _Int = None,
    batch: _Int = None,
    lr: _Float = None,
    optimizer: _Optimizer = None,
    rank: _Int = None,
    scale: _Float = None,
    image_blocks: _Int = None,
    text_blocks: _Int = None,
    image_rec_weight: _Float = None,
    text_rec_weight: _Float = None,
    image_con_weight: _Float = None,
    text_con_weight: _Float = None,
    template: _Template = None,
    class_names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="As in rmatk train; by default those of the run.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...; auto: a GPU where torch has one."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a run on photos it has not seen, or compare methods.

    The first takes RUN and DATA, the second --protocol NAME --data DATA.
    """
    if protocol is None:
        if run is None or data is None or source is not None:
            raise typer.BadParameter("give RUN and DATA; or --protocol and --data")
        _refuse(context, "--protocol", lambda name: name not in (*_OF_A_RUN, *_OF_BOTH))
        found = _measure(run, data, max_bad, batch or 64, class_names, device, quiet=as_json)
        _show(run, data, found, as_json)
    elif run is not None or source is None:
        raise typer.BadParameter("a comparison takes its photos with --data, and no RUN")
    else:
        _refuse(context, "RUN and DATA", lambda name: name in _OF_A_RUN)
        from rmatk.cli.compare import compare, show
        from rmatk.config import TrainConfig, configured

        settings = {
            "model": model, "pretrained": pretrained, "shots": shots, "epochs": epochs, "batch": batch,
            "lr": lr, "optimizer": optimizer, "rank": rank, "scale": scale, "image_blocks": image_blocks,
            "text_blocks": text_blocks, "image_rec_weight": image_rec_weight,
            "text_rec_weight": text_rec_weight, "image_con_weight": image_con_weight,
            "text_con_weight": text_con_weight, "templates": tuple(template) if template else None,
        }  # fmt: skip
        config = configured(TrainConfig, {n: v for n, v in settings.items() if v is not None})
        result = compare(
            protocol, source, target or [], seeds, methods, config, class_names, device, quiet=as_json
        )
        show(result, source, csv, markdown, as_json)


def _refuse(context: typer.Context, place: str, useless: Callable[[str], bool]) -> None:
    """Name the options that would do nothing here, and where they have a use."""
    if wrong := list(filter(useless, given(context))):
        raise typer.BadParameter(f"{flags(wrong)} can be given with {place} only")


def _measure(
    run: Path,
    data: Path,
    max_bad: float,
    batch: int,
    class_names: Path | None,
    device: str,
    *,
    quiet: bool,
) -> EvalReport:
    """The run's accuracies on ``data``, with a progress bar."""
    from rmatk.api import evaluate as evaluate_run
    from rmatk.cli.console import progress_of
    from rmatk.cli.logs import log_lines

    with log_lines(), progress_of("photos", quiet=quiet) as on_progress:
        return evaluate_run(
            run,
            data,
            class_names=class_names,
            batch=batch,
            max_bad=max_bad,
            device=device,
            on_progress=on_progress,
        )


def _show(run: Path, data: Path, report: EvalReport, as_json: bool) -> None:
    from rmatk.cli.console import print_json, print_next, print_table
    from rmatk_runtime.intervals import with_interval

    if as_json:
        print_json(report)
        return
    rows = [
        (
            c.name,
            str(c.images),
            with_interval(c.zero_shot_accuracy, c.images),
            with_interval(c.accuracy, c.images),
        )
        for c in report.per_class
    ]
    all_of = report.images
    whole = (
        "all",
        str(all_of),
        with_interval(report.zero_shot_accuracy, all_of),
        with_interval(report.accuracy, all_of),
    )
    print_table(
        f"{run} on {data}: accuracy with its 95 % interval",
        ("class", "photos", "zero-shot", "adapted"),
        [*rows, whole],
    )
    _say_what_was_trained_on(report)
    for message in report.unreadable:
        echo(f"left out: {message}")
    print_next(command("rmatk", "export", run, "-o", "BUNDLE"))


def _say_what_was_trained_on(report: EvalReport) -> None:
    """A warning where the photos are not all new to the run."""
    from rmatk_runtime.intervals import with_interval

    if report.images_unseen is None:
        echo("note: the run does not record its photos: whether these are among them is not known", err=True)
    elif report.trained_on:
        count, same = len(report.trained_on), report.trained_on_bytes
        others = (
            "all of them"
            if report.accuracy_unseen is None
            else "accuracy on the others: " + with_interval(report.accuracy_unseen, report.images_unseen)
        )
        shown = ", ".join(report.trained_on[:5]) + (f" and {count - 5} more" if count > 5 else "")
        echo(
            f"warning: {count} of {report.images} photos were trained or validated on ({same} byte for byte, "
            f"{count - same} by the same pixels): {shown}; {others}",
            err=True,
        )
