"""``rmatk train``: a folder of photos -> a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from rmatk.cli import app
from rmatk.cli.echo import echo
from rmatk.cli.given import given as typed
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    import msgspec
    from rich.progress import Progress

    from rmatk.run import Run
    from rmatk.training.train import Listener

Settings = TypeVar("Settings", bound="msgspec.Struct")


@app.command()
def train(
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Photos: a subfolder per class; or a .csv, a split .json.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run folder to write.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="An open_clip model name, or rmatk-small, the embedded one. "
            "by default ViT-B-16-quickgelu, if its weights are available.",
            show_default=False,
        ),
    ] = None,
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
    from msgspec import structs

    from rmatk.config import Execution, TrainConfig

    if optimizer != "sgd" and "momentum" in typed(context):
        raise typer.BadParameter(f"--momentum is of sgd, and {optimizer} has none: add --optimizer sgd")
    given = {**locals(), "templates": tuple(template) if template else None}
    config, execution = _settings(given, TrainConfig), _settings(given, Execution)
    if augment:
        echo("note: --augment turns the image cache off: every step runs the whole image tower", err=True)

    from rmatk.backbones.choice import chosen_device, device_note, load_chosen
    from rmatk.cli.console import progress_bar
    from rmatk.data.class_names import read_class_names
    from rmatk.training import distributed
    from rmatk.training.train import train as train_run

    class_map = read_class_names(class_names) if class_names else None
    told: list[str] = []
    with distributed.group(chosen_device(device)) as own:
        main = distributed.is_main()
        backbone, notes = load_chosen(model, pretrained, own)
        config = structs.replace(config, model=backbone.name, pretrained=backbone.pretrained)
        try:
            with progress_bar(quiet=as_json or not main) as progress:
                listener = _listener(progress, tensorboard if main else None, told)
                if main:
                    echo(device_note(backbone.device), err=True)
                    listener.noted(notes)
                run = train_run(
                    config, backbone, data, out, listener, execution, class_map=class_map, notes=notes
                )
        except KeyboardInterrupt:
            if main:
                _say_how_to_resume(out)
            raise typer.Exit(130) from None
    if main:
        _show(run, as_json, told)


def _settings(given: dict[str, object], kind: type[Settings]) -> Settings:
    """The settings that were given over the defaults; what is wrong with them is a usage error."""
    import msgspec

    from rmatk.config import configured

    known = {field.name for field in msgspec.structs.fields(kind)}
    try:
        return configured(kind, {n: v for n, v in given.items() if n in known and v is not None})
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error


def _say_how_to_resume(out: Path) -> None:
    """After Ctrl-C: what was kept, and what to do with it."""
    from rmatk.training.checkpoint import partial_folder

    partial = partial_folder(out)
    if partial.is_dir():
        echo(f"interrupted; the last checkpoint is kept in {partial}", err=True)
        echo("next: the same command continues from there; with --fresh it starts over", err=True)
    else:
        echo("interrupted before the first checkpoint; nothing was written", err=True)


def _listener(progress: Progress, tensorboard: Path | None, told: list[str]) -> Listener:
    """Shows training on a progress bar: loss, the batch's accuracy, photos per second."""
    import time

    from rmatk.training.fit import Step
    from rmatk.training.train import Listener

    class Bars(Listener):
        def noted(self, notes: Sequence[str]) -> None:
            for note in notes:
                echo(f"note: {note}", err=True)
                told.append(note)

        def started(self, photos: int, steps: int) -> None:
            self.photos = progress.add_task("photos", total=photos, note="")
            self.steps = progress.add_task("training", total=steps, note="")
            self.seen, self.began = 0, 0.0

        def read(self, photos: int) -> None:
            progress.advance(self.photos, photos)

        def stepped(self, step: Step) -> None:
            now = time.monotonic()
            note = f"loss {step.terms['loss']:.3f}  batch accuracy {step.accuracy:.0%}"
            if self.began:
                self.seen += step.photos
                note += f"  {self.seen / (now - self.began):.0f} images/s"
            else:  # the first step warms up, and may follow on steps of an earlier process: it is not timed
                self.began = now
                progress.reset(self.steps, completed=step.step)
            progress.update(self.steps, completed=step.step, note=note)

    if tensorboard is None:
        return Bars()
    from rmatk.training.tensorboard import TensorBoard

    return TensorBoard(tensorboard, Bars())


def _show(run: Run, as_json: bool, told: Sequence[str]) -> None:
    """The result as JSON, or as a table, the notes that were not ``told`` before, and the next command."""
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
    for note in record.notes:
        if note not in told:
            echo(f"note: {note}")
    print_next(
        command("rmatk", "eval", run.path, "TEST_PHOTOS"),
        command("rmatk", "export", run.path, "-o", "BUNDLE"),
    )
