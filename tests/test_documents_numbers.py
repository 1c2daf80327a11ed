"""Numbers in the documents are those in the code."""

from __future__ import annotations

import inspect
from pathlib import Path

import msgspec
import pytest

from rmatk_runtime.parity.compare import TOLERANCES

DOCS = Path(__file__).parents[1] / "docs"


def cells(document: str, first: str) -> list[str]:
    """The cells of the one table row that begins with ``first``."""
    rows = [line for line in (DOCS / document).read_text().splitlines() if line.startswith(f"| {first} |")]
    (row,) = rows
    return [cell.strip() for cell in row.strip("|").split("|")]


def text(document: str) -> str:
    """A document with its line breaks taken out."""
    return " ".join((DOCS / document).read_text().split())


def test_defaults_of_training():
    from rmatk.config import LOSS_WEIGHTS, TrainConfig, default_blocks
    from rmatk.data.photos import MOST_VALIDATION_SHOTS

    config = TrainConfig()
    assert cells("METHOD.md", "shots")[1] == f"{config.shots} per class"
    assert cells("METHOD.md", "shots")[2].startswith(f"up to {MOST_VALIDATION_SHOTS} more per class")
    rate, decay = (f"{value:.0e}".replace("e-0", "e-") for value in (config.lr, config.weight_decay))
    assert cells("METHOD.md", "optimiser")[1] == f"AdamW, lr {rate}, weight decay {decay}"
    assert config.optimizer == "adamw" and f"momentum {config.momentum}" in cells("METHOD.md", "optimiser")[2]
    assert cells("METHOD.md", "epochs, batch")[1] == f"{config.epochs}, {config.batch}"
    assert cells("METHOD.md", "prompt")[1] == f'"{config.templates[0]}"'
    assert cells("METHOD.md", "seed")[1] == str(config.seed)
    assert cells("METHOD.md", "bottleneck")[1] == f"r = {config.rank}"
    assert cells("METHOD.md", "scale")[1].startswith(f"s = {config.scale:g}, ")
    assert cells("METHOD.md", "adapted blocks")[1].endswith(f"{default_blocks(12)} of 12")
    weights = ", ".join(f"{value:g}" for value in (getattr(config, name) for name in LOSS_WEIGHTS))
    assert f"l1 to l4 are not public. Ours: {weights}, chosen" in text("METHOD.md")


def test_the_command_line_has_the_same_defaults():
    from rmatk.cli.train import train
    from rmatk.config import Execution, TrainConfig

    options = inspect.signature(train).parameters
    for kind in (TrainConfig, Execution):
        for field in msgspec.structs.fields(kind):
            if field.name != "templates":  # the help names the one that is taken
                assert options[field.name].default == field.default, field.name


def test_kept_activations_and_calibration():
    from rmatk import calibration
    from rmatk.training.cache import MEMORY_BUDGET

    assert f"kept, past {MEMORY_BUDGET >> 30} GiB in a memory-mapped file" in text("METHOD.md")
    kept = f"the threshold is the largest that {calibration.KEPT_SHARE:.0%}".replace("%", " %")
    assert f"{kept} of the right answers reach" in text("METHOD.md")
    least = f"With fewer than {calibration.LEAST_SHOTS} shots, or {calibration.LEAST_PER_CLASS} of a class"
    assert least in text("METHOD.md")
    assert f"with fewer than {calibration.LEAST_RIGHT} right answers" in text("METHOD.md")


@pytest.mark.parametrize("precision", TOLERANCES)
def test_tolerances(precision):
    cosine, difference, agreement = cells("PARITY.md", precision)[1:4]
    tolerance = TOLERANCES[precision]
    assert float(cosine) == tolerance.min_cosine
    assert float(difference) == tolerance.max_embedding_difference
    assert float(agreement.removesuffix(" %")) / 100 == tolerance.min_agreement


def test_limits_of_the_running_loop_and_its_page():
    from rmatk_runtime.inference import summary
    from rmatk_runtime.labels import watch as label_watch
    from rmatk_runtime.sinks import outbox
    from rmatk_runtime.sources import live
    from rmatk_runtime.web import guard, meter, snapshots
    from rmatk_runtime.web.api import WAIT
    from rmatk_runtime.web.live import LONGEST_SIDE
    from rmatk_runtime.web.server import SHORTEST_TOKEN

    limit = inspect.signature(outbox.Outbox).parameters["limit"].default
    for document, numbers in {
        "WEB.md": (
            f"{snapshots.LEAST_FREE >> 20} MB of the disk are left free",
            f"a token of at least {SHORTEST_TOKEN} characters",
            f"no result came for {meter.STALLED:g} s",
            f"the first {meter.MOST_LABELS}, then `other`",
            f"at most {guard.MOST_BYTES >> 20} MB",
            f"at most {LONGEST_SIDE} pixels a side",
            f"204 after {WAIT:g} s",
        ),
        "LIVE.md": (
            f"{limit} records wait at most",
            f"times are kept of the last {summary.KEPT:,} frames",
        ),
    }.items():
        for number in numbers:
            assert number in text(document), number
    assert label_watch.PERIOD <= 1 and "within a second of `rmatk labels`" in text("LIVE.md")
    assert outbox.LONGEST_WAIT <= 5 and "at least every five seconds" in text("LIVE.md")
    assert (live.FIRST_WAIT, live.LONGEST_WAIT) == (0.5, 30)
    assert "double from half a second to half a minute" in text("SOURCES.md")
