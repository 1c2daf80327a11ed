"""Sample outputs of the documentation: recorded results, printed by the commands' own functions.

The figures in ``docs/samples`` are those of one run of each command with ``--json``, on the data that the
document names; the columns and words are always those of the present code.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import msgspec

from rmatk_runtime.parity.stage import Bisection, StageResult

SAMPLES = Path(__file__).parents[1] / "docs" / "samples"


class Recorded(msgspec.Struct):
    """What ``rmatk parity --json`` printed, as far as it is shown."""

    basis: str
    stages: tuple[StageResult, ...]
    bisections: tuple[Bisection, ...] = ()


def parity(name: str, commands: str, photos: str, *, nodes: int = 0) -> str:
    """A terminal after ``commands``: the stages in ``name`` and the first ``nodes`` of a bisection."""
    from rmatk.cli.console import print_stages, print_table
    from rmatk_runtime.parity.table import NODE_HEADINGS, node_row, verdict

    recorded = msgspec.json.decode((SAMPLES / name).read_bytes(), type=Recorded)
    by_name = {stage.stage: stage for stage in recorded.stages}
    printed = StringIO()
    with redirect_stdout(printed):
        print_stages("parity of bundle with PyTorch", recorded.stages, photos)
        print(f"checked {recorded.basis}")
        for found in recorded.bisections:
            rows = [node_row(node) for node in found.largest(nodes)]
            print_table(f"{found.stage}: largest own deviations", NODE_HEADINGS, rows, wrap=True)
            print(verdict(found, by_name[found.stage]))
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    return "\n".join(["```console", *(f"$ {line}" for line in commands.splitlines()), *lines, "```"])
