"""``rmatk train``: a folder of photos -> a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rmatk.cli import app
from rmatk.cli.echo import echo
from rmatk.cli.given import given
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rich.progress import TaskID

    from rmatk.run import Run
    from rmatk.training.fit import OnStep, Step


@app.command()
def train(
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Photos: a subfolder per class; or a .csv, a split .json.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run folder to write.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="An open_clip model name, or rmatk-small, the embedded one. "
            "by default ViT-B-16-quickgelu, if its weights are available.",
            show_default=False,
        ),
    ] = "auto",
    pretrained: Annotated[
        str | None, typer.Option(metavar="TAG|FILE", help="open_clip tag, or a local file of weights.")
    ] = None,
    shots: Annotated[int, typer.Option(metavar="N", help="Training photos per class.")] = 16,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of every random draw.")] = 1,
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the training photos.")] = 20,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Photos per step; by default 16, or an eighth of the classes."),
    ] = None,
    lr: Annotated[float, typer.Option(metavar="X", help="Peak learning rate.")] = 3e-3,
    optimizer: Annotated[
        Literal["adamw", "sgd"], typer.Option(metavar="NAME", help="adamw or sgd.")
    ] = "adamw",
    weight_decay: Annotated[float, typer.Option(metavar="X", help="Weight decay.")] = 5e-4,
    momentum: Annotated[float, typer.Option(metavar="X", help="Momentum of sgd.")] = 0.9,
    rank: Annotated[int, typer.Option(metavar="N", help="Bottleneck of every adapter.")] = 32,
    scale: Annotated[float, typer.Option(metavar="X", help="Factor of the adaptation branch.")] = 1.0,
    image_blocks: Annotated[
        int | None, typer.Option(metavar="N", help="Last image blocks to adapt; by default two thirds.")
    ] = None,
    text_blocks: Annotated[
        int | None, typer.Option(metavar="N", help="Last text blocks to adapt; by default two thirds.")
    ] = None,
    image_rec_weight: Annotated[
        float, typer.Option(metavar="X", help="Weight of the image reconstruction loss.")
    ] = 1.0,
    text_rec_weight: Annotated[
        float, typer.Option(metavar="X", help="Weight of the text reconstruction loss.")
    ] = 1.0,
    image_con_weight: Annotated[
        float, typer.Option(metavar="X", help="Weight of the image consistency loss.")
    ] = 0.2,
    text_con_weight: Annotated[
        float, typer.Option(metavar="X", help="Weight of the text consistency loss.")
    ] = 0.2,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt with {} for the class name; repeatable. Default: 'a photo of a {}.'",
        ),
    ] = None,
    max_bad: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of the photos drawn that may be unreadable; they are listed."
        ),
    ] = 0.0,
    stretch: Annotated[
        str | None,
        typer.Option(
            metavar="auto|LOW:HIGH", help="16-bit grey: each photo's own range, or these levels; else all."
        ),
    ] = None,
    augment: Annotated[
        bool,
        typer.Option("--augment", help="Random crops and mirror images; nothing is cached: far slower."),
    ] = False,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(
            metavar="NAME", help="auto, fp32, bf16 or fp16; auto: 16 bits on a GPU, fp32 on most CPUs."
        ),
    ] = "auto",
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Names for classes whose folders are codes: lines of code,name, or JSON."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...; auto: a GPU where torch has one."),
    ] = "auto",
    cache: Annotated[
        Literal["auto", "memory", "disk", "off"],
        typer.Option(metavar="NAME", help="Where frozen activations are kept: auto, memory, disk or off."),
    ] = "auto",
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds between checkpoints.")
    ] = 15.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of continuing an interrupted run.")
    ] = False,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the adapted blocks: slow start, faster steps.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write figures for TensorBoard there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit adapters to a few photos per class.

    After an interruption, the same command continues the run.
    """
    from rmatk.api import train as train_run
    from rmatk.cli.logs import log_lines
    from rmatk.config import Execution, TrainConfig
    from rmatk.training.distributed import is_main
    from rmatk.training.tensorboard import tensorboard as write_tensorboard

    if optimizer != "sgd" and "momentum" in given(context):
        raise typer.BadParameter(f"--momentum is of sgd, and {optimizer} has none: add --optimizer sgd")
    config = TrainConfig(
        model=model, pretrained=pretrained, shots=shots, seed=seed, epochs=epochs, batch=batch,
        lr=lr, optimizer=optimizer, weight_decay=weight_decay, momentum=momentum, rank=rank, scale=scale,
        image_blocks=image_blocks, text_blocks=text_blocks, image_rec_weight=image_rec_weight,
        text_rec_weight=text_rec_weight, image_con_weight=image_con_weight,
        text_con_weight=text_con_weight, templates=tuple(template or TrainConfig().templates),
        max_bad=max_bad, stretch=_parse_stretch(stretch), augment=augment, precision=precision,
    )  # fmt: skip
    execution = Execution(cache=cache, checkpoint_every=checkpoint_every, fresh=fresh, compile=compile)
    if augment:
        echo("note: --augment turns the image cache off: every step runs the whole image tower", err=True)
    main = is_main()
    bars = _Bars(None if tensorboard is None or not main else write_tensorboard(tensorboard))
    try:
        with log_lines(), bars.shown(quiet=as_json or not main):
            run = train_run(
                data,
                out,
                config,
                class_names=class_names,
                execution=execution,
                device=device,
                on_progress=bars.progress,
                on_step=bars.step,
            )
    except KeyboardInterrupt:
        if main:
            _say_how_to_resume(out)
        raise typer.Exit(130) from None
    if main:
        _show(run, as_json)


def _parse_stretch(text: str | None) -> Literal["auto"] | tuple[int, int] | None:
    """``auto``, or ``LOW:HIGH`` as two levels."""
    if text is None or text == "auto":
        return "auto" if text else None
    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal() and int(low) < int(high) <= 65535):
        raise typer.BadParameter(
            f"--stretch takes auto or LOW:HIGH with 0 <= LOW < HIGH <= 65535, not {text}"
        )
    return int(low), int(high)


def _say_how_to_resume(out: Path) -> None:
    """After Ctrl-C: what was kept, and what to do with it."""
    from rmatk.training.checkpoint import partial_folder

    partial = partial_folder(out)
    if partial.is_dir():
        echo(f"interrupted; the last checkpoint is kept in {partial}", err=True)
        echo("next: the same command continues from there; with --fresh it starts over", err=True)
    else:
        echo("interrupted before the first checkpoint; nothing was written", err=True)


class _Bars:
    """Shows training on progress bars: loss, the batch's accuracy, photos per second."""

    def __init__(self, also: OnStep | None) -> None:
        self._also = also
        self._tasks: dict[str, TaskID] = {}
        self._note, self._seen, self._began = "", 0, 0.0

    @contextmanager
    def shown(self, *, quiet: bool) -> Iterator[None]:
        """Show the bars while the block runs."""
        from rmatk.cli.console import progress_bar

        with progress_bar(quiet=quiet) as self._bar:
            yield

    def progress(self, what: str, done: int, total: int) -> None:
        """See :data:`~rmatk_runtime.progress.OnProgress`."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total, note="", completed=done)
        self._bar.update(self._tasks[what], completed=done, note=self._note)

    def step(self, step: Step) -> None:
        """See :data:`~rmatk.training.fit.OnStep`."""
        if self._also is not None:
            self._also(step)
        now = time.monotonic()
        self._note = f"loss {step.terms['loss']:.3f}  batch accuracy {step.accuracy:.0%}"
        if self._began:
            self._seen += step.photos
            self._note += f"  {self._seen / (now - self._began):.0f} images/s"
        else:  # the first step warms up, and may continue an earlier process: it is not timed
            self._began = now


def _show(run: Run, as_json: bool) -> None:
    """The result as JSON, or as a table and the next command; its notes were logged during training."""
    import msgspec

    from rmatk.cli.console import print_json, print_next, print_table
    from rmatk.run import accuracies
    from rmatk_runtime.intervals import with_interval

    record = run.record
    found = accuracies(record)
    if as_json:
        metrics = msgspec.to_builtins(record.metrics)
        print_json({"run": str(run.path), "notes": record.notes, **metrics, "accuracies": found})
        return
    print_table(
        f"{record.config.model} on {len(record.class_names)} classes -> {run.path}",
        ("accuracy on (95 % interval)", "photos", "zero-shot", "adapted"),
        [
            (
                a.photos,
                str(a.images),
                with_interval(a.zero_shot, a.images),
                with_interval(a.adapted, a.images),
            )
            for a in found
        ],
    )
    print_next(
        command("rmatk", "eval", run.path, "TEST_PHOTOS"),
        command("rmatk", "export", run.path, "-o", "BUNDLE"),
    )
