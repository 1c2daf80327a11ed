"""``rmatk demo``: every step on rendered parts, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmatk.cli import app
from rmatk.cli.echo import echo
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk.demo import DemoResult


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path(
        "rmatk-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of rendering, shots and training.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run every step on rendered photos, and write a page with results.

    Photos and a video are rendered; then train, export, parity and infer run on them.
    """
    from rmatk.cli.console import print_json
    from rmatk.demo import demo as run_demo

    def announce(name: str, done: int, total: int) -> None:
        echo(f"[{done + 1}/{total}] {name}", err=True)

    result = run_demo(out, seed=seed, on_progress=announce)
    if as_json:
        print_json(_record(result))
    else:
        _show(result)


def _record(result: DemoResult) -> dict[str, object]:
    return {
        "out": str(result.out),
        "zero_shot_accuracy": result.report.zero_shot_accuracy,
        "accuracy": result.report.accuracy,
        "video_accuracy": result.video_accuracy,
        "accuracy_interval": result.report.accuracy_interval,
        "zero_shot_interval": result.report.zero_shot_interval,
        "images": result.report.images,
        "frames": result.summary.frames,
        "parity": result.stages,
        "seconds": round(result.seconds, 1),
    }


def _show(result: DemoResult) -> None:
    from rmatk.cli.console import print_next, print_stages, print_table
    from rmatk_runtime.intervals import with_interval

    print_stages("parity with PyTorch", result.stages, "test photos, not trained on")
    report = result.report
    rows = [
        (
            "test photos, not trained on: zero-shot",
            str(report.images),
            with_interval(report.zero_shot_accuracy, report.images),
        ),
        (
            "test photos, not trained on: adapted",
            str(report.images),
            with_interval(report.accuracy, report.images),
        ),
        ("video frames, adapted", str(result.summary.frames), f"{result.video_accuracy:.1%}"),
    ]
    print_table(
        f"demo in {result.out}, {result.seconds:.0f} s", ("accuracy on", "images", "95 % interval"), rows
    )
    echo(f"the page: {result.out / 'index.html'}")
    print_next(
        command("rmatk", "infer", result.out / "bundle", result.material.video),
        "rmatk train YOUR_PHOTOS -o RUN --model ViT-B-16-quickgelu --pretrained openai",
    )
