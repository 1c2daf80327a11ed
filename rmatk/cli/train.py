"""``rmatk train``: a folder of photos -> a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmatk.cli import app

if TYPE_CHECKING:
    from rich.progress import Progress

    from rmatk.config import TrainConfig
    from rmatk.run import Run
    from rmatk.train import Listener


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Photos: one subfolder per class, named after it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.")],
    model: Annotated[str, typer.Option(help="rmatk-micro, or an open_clip model name.")] = "rmatk-micro",
    pretrained: Annotated[str | None, typer.Option(help="open_clip tag, or a local file of weights.")] = None,
    shots: Annotated[int, typer.Option(help="Training photos per class.")] = 16,
    seed: Annotated[int, typer.Option(help="The one source of every random draw.")] = 1,
    epochs: Annotated[int, typer.Option(help="Passes over the training photos.")] = 40,
    batch: Annotated[int, typer.Option(help="Photos per step.")] = 16,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-3,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 5e-4,
    momentum: Annotated[float, typer.Option(help="Momentum of sgd.")] = 0.9,
    rank: Annotated[int, typer.Option(help="Bottleneck of every adapter.")] = 32,
    scale: Annotated[float, typer.Option(help="Factor of the adaptation branch.")] = 1.0,
    image_blocks: Annotated[
        int | None, typer.Option(help="Last image blocks to adapt; two thirds unless told.")
    ] = None,
    text_blocks: Annotated[
        int | None, typer.Option(help="Last text blocks to adapt; two thirds unless told.")
    ] = None,
    l1: Annotated[float, typer.Option(help="Weight of the image reconstruction loss.")] = 1.0,
    l2: Annotated[float, typer.Option(help="Weight of the text reconstruction loss.")] = 1.0,
    l3: Annotated[float, typer.Option(help="Weight of the image consistency loss.")] = 0.02,
    l4: Annotated[float, typer.Option(help="Weight of the text consistency loss.")] = 0.02,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Prompt with {} for the class name; repeatable. One unless told: 'a photo of a {}.'"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit adapters to a few photos per class."""
    from rmatk.config import TrainConfig

    chosen = {name: value for name, value in locals().items() if name in TrainConfig.__struct_fields__}
    if template:
        chosen["templates"] = tuple(template)
    config = _config({name: value for name, value in chosen.items() if value is not None})

    from rmatk.backbone import load_backbone
    from rmatk.cli.console import progress_bar
    from rmatk.train import train as train_run

    backbone = load_backbone(config.model, config.pretrained, device)
    with progress_bar(quiet=as_json) as progress:
        run = train_run(config, backbone, data, out, _listener(progress))
    _show(run, as_json)


def _config(chosen: dict[str, object]) -> TrainConfig:
    """The settings that were given over the defaults; what is wrong with them is a usage error."""
    import msgspec

    from rmatk.config import TrainConfig

    try:
        return msgspec.convert(chosen, TrainConfig)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error


def _listener(progress: Progress) -> Listener:
    """Shows training on a progress bar."""
    from rmatk.train import Listener, Step

    class Bars(Listener):
        def started(self, photos: int, steps: int) -> None:
            self.photos = progress.add_task("photos", total=photos, note="")
            self.steps = progress.add_task("training", total=steps, note="")

        def read(self, photos: int) -> None:
            progress.advance(self.photos, photos)

        def stepped(self, step: Step) -> None:
            note = f"loss {step.terms['loss']:.3f}"
            progress.update(self.steps, completed=step.step, note=note)

    return Bars()


def _show(run: Run, as_json: bool) -> None:
    """The result as JSON, or as a table and the next command."""
    import msgspec

    from rmatk.cli.console import print_json, print_next, print_table

    record = run.record
    if as_json:
        print_json({"run": str(run.path), "notes": record.notes, **msgspec.to_builtins(record.metrics)})
        return
    metrics = record.metrics
    rows = [
        ("training shots", len(record.train_files), metrics.train_zero_shot_accuracy, metrics.train_accuracy),
        (
            "validation shots",
            len(record.validation_files),
            metrics.validation_zero_shot_accuracy,
            metrics.validation_accuracy,
        ),
    ]
    print_table(
        f"{record.config.model} on {len(record.class_names)} classes -> {run.path}",
        ("accuracy on", "photos", "zero-shot", "adapted"),
        [
            (name, str(count), f"{zero_shot:.1%}", f"{adapted:.1%}")
            for name, count, zero_shot, adapted in rows
            if zero_shot is not None and adapted is not None
        ],
    )
    for note in record.notes:
        typer.echo(f"note: {note}")
    print_next(f"rmatk eval {run.path} TEST_PHOTOS", f"rmatk export {run.path} -o BUNDLE")
