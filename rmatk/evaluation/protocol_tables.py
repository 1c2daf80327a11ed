"""The results of a comparison as a table for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io

from rmatk.evaluation.protocols import MethodResult, ProtocolResult

_HEADINGS = {"hm": "HM", "accuracy": "accuracy", "base": "base", "new": "new", "average": "average"}


def headings(result: ProtocolResult) -> tuple[str, ...]:
    """``method`` and every column."""
    return ("method", *(_HEADINGS.get(column, column) for column in result.columns))


def cells(result: ProtocolResult) -> list[tuple[str, ...]]:
    """One row per method: its name and, per column, mean and standard deviation in percent."""
    return [(m.method, *(_cell(m, column) for column in result.columns)) for m in result.methods]


def title(result: ProtocolResult) -> str:
    """What was compared, on what, how."""
    seeds = [seed.seed for seed in result.methods[0].per_seed]
    model = f"{result.model} ({result.pretrained})" if result.pretrained else result.model
    listed = ", ".join(map(str, seeds))
    return (
        f"{result.protocol}, {result.data}, {model}: {result.config.shots} shots of "
        f"{result.train_classes} classes, {'seeds' if len(seeds) > 1 else 'seed'} {listed}"
    )


def markdown(result: ProtocolResult) -> str:
    """A Markdown table under its title."""
    names = headings(result)
    lines = [
        f"{title(result)}. Accuracy in %, mean ± sample standard deviation.",
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(row)} |" for row in cells(result)),
    ]
    return "\n".join(lines) + "\n"


def csv_text(result: ProtocolResult) -> str:
    """One line per method and seed, then its ``mean`` and ``sd``; accuracies in [0, 1], empty where none."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("method", "seed", *result.columns))
    for method in result.methods:
        lines = [
            *((str(one.seed), one.values) for one in method.per_seed),
            ("mean", method.mean),
            ("sd", method.sd),
        ]
        for label, values in lines:
            writer.writerow((method.method, label, *(values[column] for column in result.columns)))
    return table.getvalue()


def _cell(method: MethodResult, column: str) -> str:
    mean, sd = method.mean[column], method.sd[column]
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" if sd is None else f"{100 * mean:.1f} ± {100 * sd:.1f}"
