"""The comparing half of ``rmatk eval``: settings from flags, progress, and the table in all its forms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from rmatk.cli.echo import echo
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk.config import TrainConfig
    from rmatk.evaluation.protocols import ProtocolResult


def compare(
    protocol: str,
    source: Path,
    targets: list[Path],
    seeds: str,
    methods: str,
    config: TrainConfig,
    class_names: Path | None,
    device: str,
    *,
    quiet: bool,
) -> ProtocolResult:
    """Run a protocol as the command line tells it.

    Raises:
        typer.BadParameter: an unknown protocol or method, seeds that are no numbers, targets for a protocol
            that has none.
        RmatkError: what the protocol raises.
    """
    from msgspec import structs

    from rmatk.backbones.choice import chosen_device, device_note, load_chosen
    from rmatk.cli.console import print_notes, progress_of
    from rmatk.data.class_names import read_class_names, twins
    from rmatk.data.duplicates import equal_files
    from rmatk.data.formats import open_dataset, open_splits
    from rmatk.data.shots import few_shot
    from rmatk.evaluation import protocols

    known = get_args(protocols.Protocol)
    if protocol not in known:
        raise typer.BadParameter(f"--protocol is one of {', '.join(known)}, not {protocol!r}")
    across = protocol in ("cross-dataset", "domain")
    if bool(targets) != across:
        raise typer.BadParameter(f"--target: {protocol} needs {'at least one' if across else 'none'}")
    numbers, names = _seeds(seeds), _methods(methods)
    given = None if class_names is None else read_class_names(class_names)
    data = open_splits(source, given)
    tests = {path.resolve().stem: open_dataset(path, "test", given) for path in targets}
    if len(tests) < len(targets):
        raise typer.BadParameter("--target: two of them have the same name")
    backbone, notes = load_chosen(config.model, config.pretrained, chosen_device(device))
    config = structs.replace(config, model=backbone.name, pretrained=backbone.pretrained)
    print_notes(data.train, data.test, *tests.values())
    for line in (device_note(backbone.device), *(f"note: {note}" for note in notes)):
        echo(line, err=True)
    if same_names := twins(data.train.class_names):
        listed = "; ".join(" and ".join(map(repr, group)) for group in same_names[:5])
        echo(f"warning: classes of {source} have one name, but for case and hyphens: {listed}", err=True)
    shots = [few_shot(data.train, config.shots, seed).train for seed in numbers]
    for test in (data.test, *tests.values()):
        if same := equal_files(test, shots):
            echo(
                f"warning: {len(same)} test photos of {test.root} are training shots, byte for byte, "
                f"first {same[0]}",
                err=True,
            )
    with progress_of("comparing", quiet=quiet) as on_progress:
        if protocol == "few-shot":
            return protocols.few_shot_accuracy(backbone, data, config, numbers, names, on_progress)
        if protocol == "base-to-new":
            return protocols.base_to_new(backbone, data, config, numbers, names, on_progress)
        style: Any = protocol
        return protocols.cross_dataset(
            backbone, data, tests, config, numbers, names, on_progress, protocol=style
        )


def show(
    result: ProtocolResult, source: Path, csv: Path | None, markdown: Path | None, as_json: bool
) -> None:
    """Write the files that were asked for, and print JSON or a table and the next command.

    Raises:
        StorageError: a file that cannot be written.
    """
    from rmatk.cli.console import print_json, print_next, print_table
    from rmatk.evaluation import protocol_tables as tables
    from rmatk_runtime.files import write_atomic

    if csv is not None:
        write_atomic(csv, tables.csv_text(result).encode())
    if markdown is not None:
        write_atomic(markdown, tables.markdown(result).encode())
    if as_json:
        print_json(result)
        return
    print_table(tables.title(result), tables.headings(result), tables.cells(result))
    echo("accuracy in %, mean ± sample standard deviation over seeds")
    print_next(command("rmatk", "train", source, "-o", "RUN"))


def _seeds(text: str) -> list[int]:
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise typer.BadParameter(f"--seeds takes numbers such as 1,2,3, not {text!r}")
    return [int(part) for part in text.split(",")]


def _methods(text: str) -> list[str]:
    from rmatk.evaluation.methods import METHODS

    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in METHODS]:
        raise typer.BadParameter(f"--methods: unknown {', '.join(unknown)}; known: {', '.join(METHODS)}")
    return names
