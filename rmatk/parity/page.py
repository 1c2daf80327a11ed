"""The page of ``rmatk parity --html``: verdict, stages, pictures whose label changed, in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from rmatk.pages.html import document, figure, percent, rows
from rmatk.parity.charts import changes, profile, spread
from rmatk_runtime.arrays import UInt8
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Tolerance
from rmatk_runtime.files import write_atomic
from rmatk_runtime.intervals import wilson
from rmatk_runtime.parity.stage import Bisection, Flip, StageKind, StageResult, first_failure
from rmatk_runtime.parity.table import FULL, LISTED, NODE_HEADINGS, node_row, stage_row, verdict

_TEMPLATE = Path(__file__).with_name("parity.html")
_PICTURES = 24


def write_parity_page(
    path: Path,
    bundle: Bundle,
    stages: Sequence[StageResult],
    bisections: Sequence[Bisection],
    *,
    reference: str,
    picture: Callable[[str], Image.Image | UInt8],
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        bundle: what was checked.
        stages: what parity found.
        bisections: what bisecting found, if it was asked for.
        reference: what the stages were compared with, and on which pictures, in words.
        picture: an image by its name in the stages.

    Raises:
        StorageError: disk full, no permission.
        DataError: a photo cannot be read any more.
    """
    failed = first_failure(stages)
    manifest = bundle.manifest
    body = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        summary=escape(
            f"{manifest.model.name} ({manifest.model.pretrained or 'own weights'}), "
            f"{len(bundle.classes().names)} classes, exported {manifest.provenance.created}; {reference}."
        ),
        outcome="right" if failed is None else "wrong",
        verdict=f"<p>{escape(_verdict(failed))}</p>{''.join(_findings(bisections, failed))}",
        figures="".join(f"<div><b>{value}</b>{name}</div>" for name, value in _headline(stages)),
        headings="".join(f"<th>{escape(heading)}</th>" for heading in FULL),
        stages="".join(map(_stage, stages)),
        bisections="".join(_bisections(bisections, stages)),
        spreads="".join(spread(stage) for stage in stages if stage.spread),
        changes=_changes(stages),
        flips="".join(_flips(stages, picture))
        or "<p>None: every image has the label that PyTorch gave it.</p>",
        tolerances=rows(_tolerance(name, held) for name, held in manifest.tolerances.items()),
    )
    write_atomic(path, document(f"Parity of {bundle.path.name}", body))


def _verdict(failed: StageResult | None) -> str:
    if failed is None:
        return "Passes: every stage gives what PyTorch gave, within the tolerance of its precision."
    return f"Fails at the stage '{failed.stage}': {failed.reason}."


def _findings(bisections: Sequence[Bisection], failed: StageResult | None) -> Iterator[str]:
    for found in bisections:
        if failed is not None and found.stage == failed.stage:
            yield f"<p>{escape(verdict(found, failed))}</p>"


def _headline(stages: Sequence[StageResult]) -> Iterator[tuple[str, str]]:
    compared = [
        stage for stage in stages if stage.agreement is not None and stage.kind is not StageKind.CLASS_MATRIX
    ]
    if compared:
        least = min(compared, key=lambda stage: stage.agreement or 0.0)
        yield "images", str(least.images)
        yield f"have the same label in {least.stage}, the least", percent(least.agreement or 0.0)
    for stage in stages:
        if stage.reference_accuracy is not None:
            low, high = wilson(stage.reference_accuracy, stage.images)
            interval = f"95 %: {100 * low:.1f} to {100 * high:.1f}"
            yield (
                f"accuracy in PyTorch on these {stage.images} ({interval})",
                percent(stage.reference_accuracy),
            )
            return


def _stage(stage: StageResult) -> str:
    row = rows([stage_row(stage, FULL)])
    return row if stage else row.replace("<tr>", '<tr class="wrong">')


def _changes(stages: Sequence[StageResult]) -> str:
    drawn = changes(stages)
    if not drawn:
        return ""
    return f"<h2>How accuracy moved</h2><p>Points against PyTorch, with 95 % confidence intervals.</p>{drawn}"


def _bisections(bisections: Sequence[Bisection], stages: Sequence[StageResult]) -> Iterator[str]:
    if bisections:
        yield (
            "<h2>Node by node</h2><p>Bars: what each node adds to the deviation of its inputs; line: how far "
            "its output is from the reference in total; from the first node to the last, logarithmic. A "
            "dashed line marks where the graph diverges.</p>"
        )
    headings = "".join(f"<th>{heading}</th>" for heading in NODE_HEADINGS)
    of = {stage.stage: stage for stage in stages}
    for found in bisections:
        listed = rows(map(node_row, found.largest(LISTED)))
        yield (
            f"<h3>{escape(found.stage)}</h3><p>{escape(verdict(found, of[found.stage]))}</p>{profile(found)}"
            f'<div class="wide nodes"><table><tr>{headings}</tr>{listed}</table></div>'
        )


def _flips(stages: Sequence[StageResult], picture: Callable[[str], Image.Image | UInt8]) -> Iterator[str]:
    """The pictures of each stage, those that PyTorch was surest of first; of labels there are none."""
    if any(flip.truth for stage in stages for flip in stage.flips):
        yield "<p>Framed red where PyTorch's label was the true one, green where the new one is.</p>"
    for stage in stages:
        if not stage.flips:
            continue
        yield f"<h3>{escape(f'{stage.stage}: {len(stage.flips)} of {stage.images}')}</h3>"
        shown = stage.flips[:_PICTURES]
        if stage.kind is StageKind.CLASS_MATRIX:
            yield "".join(
                f"<p>What PyTorch embeds for {label} is nearest to {nearest}.</p>"
                for label, nearest in ((escape(f.image), escape(f.reference)) for f in shown)
            )
        else:
            yield f'<div class="pictures">{"".join(_flip(flip, picture) for flip in shown)}</div>'
        if more := len(stage.flips) - len(shown):
            yield f"<p>and {more} more</p>"


def _flip(flip: Flip, picture: Callable[[str], Image.Image | UInt8]) -> str:
    image = picture(flip.image)
    drawn = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    right = {flip.candidate: True, flip.reference: False}.get(flip.truth or "")
    caption = f"{flip.reference} → {flip.candidate}, margin {flip.margin:.1%}; {flip.image}"
    return figure(drawn, caption, right)


def _tolerance(name: str, held: Tolerance) -> tuple[str, ...]:
    figures = (f"{held.min_cosine:g}", f"{held.max_embedding_difference:g}", f"{held.min_agreement:.0%}")
    return (name, *figures)
