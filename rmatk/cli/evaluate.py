"""``rmatk eval``: the accuracy of a run on photos, with zero-shot accuracy beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmatk.cli import app


@app.command("eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder, written by rmatk train.")],
    data: Annotated[Path, typer.Argument(help="Photos: one subfolder per class, named as in training.")],
    batch: Annotated[int, typer.Option(min=1, help="Photos at once.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a run on photos it has not seen."""
    from rmatk.backbone import load_backbone
    from rmatk.cli.console import print_json, print_next, print_table, progress_bar
    from rmatk.data import read_folder
    from rmatk.evaluate import evaluate as evaluate_run
    from rmatk.run import load_run, restore

    loaded = load_run(run)
    config = loaded.record.config
    dataset = read_folder(data)
    model = restore(loaded, load_backbone(config.model, config.pretrained, device))
    with progress_bar(quiet=as_json) as progress:
        task = progress.add_task("photos", total=len(dataset.flat()[0]), note="")
        report = evaluate_run(
            model,
            loaded.record.class_names,
            config.templates,
            dataset,
            batch=batch,
            on_images=lambda count: progress.advance(task, count),
        )
    if as_json:
        print_json(report)
        return
    print_table(
        f"{run} on {data}",
        ("class", "photos", "zero-shot", "adapted"),
        [
            *(
                (c.name, str(c.images), f"{c.zero_shot_accuracy:.1%}", f"{c.accuracy:.1%}")
                for c in report.per_class
            ),
            ("all", str(report.images), f"{report.zero_shot_accuracy:.1%}", f"{report.accuracy:.1%}"),
        ],
    )
    print_next(f"rmatk export {run} -o BUNDLE")
