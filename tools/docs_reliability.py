"""Tables of docs/RELIABILITY.md, from the results that the tools for faults and attacks printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.docs_markdown import table

_RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def _load(name: str) -> Any:
    return json.loads((_RESULTS / f"reliability_{name}.json").read_text(encoding="utf-8"))


def fuzz() -> str:
    """What became of mutated bundles."""
    found = _load("fuzz")
    rows = (
        ("mutated bundles", found["tried"]),
        ("answers of the unchanged bundle", found["original"]),
        ("named error", found["named"]),
        ("other answers, finite and well formed", found["other"]),
        ("traceback", found["tracebacks"]),
        ("death of the process", found["deaths"]),
        ("more than 10 s of processor time", found["slow"]),
        ("more than 512 MB", found["large"]),
        ("NaN as an answer", found["nan"]),
        ("largest memory", f"{found['peak_mb']} MB"),
    )
    command = f"`python tools/fuzz_bundles.py --count {found['tried']} --seed {found['seed']} --json`"
    return f"{table(('outcome', 'bundles'), rows)}\n\n{command}"


def chaos() -> str:
    """What was lost when commands were killed or their disk was full."""
    found = _load("chaos")
    kinds = ("kills", "half_written", "leftovers", "wrong")
    parts = (
        (f"`rmatk {name}`", *(counts.get(kind, 0) for kind in kinds))
        for name, counts in found["by_command"].items()
    )
    rows = [*parts, ("together", *(found[kind] for kind in kinds))]
    headings = ("command", "kills", "half-written files", "leftovers after the next run", "wrong results")
    text = table(headings, rows)
    if (disks := found["disks"]) is not None:
        text += (
            f"\n\n{disks['tried']} commands on a full or read-only disk: {disks['failed_by_name']} ended "
            f"with a named error, the others had enough space; {disks['sound_afterwards']} left nothing "
            "half-written and succeeded once there was space."
        )
    return f"{text}\n\n`python tools/chaos.py --kills {found['kills']} --seed {found['seed']} --json`"


def web() -> str:
    """What attacks on the web page cost."""
    rows = (
        (name.replace("_", " "), figures["rate"], figures["memory_mb"], figures["stop_s"], _answers(figures))
        for name, figures in _load("web").items()
    )
    headings = ("attack", "rate under attack / before", "memory, MB", "end after SIGTERM, s", "answers")
    return f"{table(headings, rows)}\n\n`python tools/web_load.py --json`"


def _answers(figures: dict[str, Any]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in figures["answers"].items()) or "none"


BLOCKS = {"reliability fuzz": fuzz, "reliability chaos": chaos, "reliability web": web}
