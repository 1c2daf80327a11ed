"""The record in a server folder: what it was made from and how it was checked.

The record's name marks a folder as ours: only such a folder, or an empty one, is ever replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from rmatk_runtime import __version__
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Graph, Precision
from rmatk_runtime.errors import ExportError
from rmatk_runtime.files import write_atomic
from rmatk_runtime.parity.stage import StageResult, require_passed

Server = Literal["triton", "deepstream"]


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One folder written for a server.

    ``graph_sha256``: digest of the bundle's graph that is inside; ``labels_sha256``: of the class matrix, so
    that a later change of labels is detected; ``backend``: of Triton, None for DeepStream; ``stages`` checked
    before the folder took its name.
    """

    server: Server
    rmatk: str = __version__
    bundle: str
    run_digest: str
    precision: Precision
    graph_sha256: str
    labels_sha256: str
    backend: str | None = None
    stages: tuple[StageResult, ...]


def marker(server: Server) -> str:
    """The record's file name."""
    return f"rmatk-{server}.json"


def describe(
    server: Server, bundle: Bundle, graph: Graph, stages: Sequence[StageResult], *, backend: str | None = None
) -> Served:
    """The record of a folder made from ``graph`` of ``bundle``."""
    manifest = bundle.manifest
    return Served(
        server=server,
        bundle=bundle.path.resolve().name,
        run_digest=manifest.provenance.run_digest,
        precision=graph.precision,
        graph_sha256=manifest.graph_digest(graph.file),
        labels_sha256=manifest.files[manifest.labels.file].sha256,
        backend=backend,
        stages=tuple(stages),
    )


def keep(folder: Path, record: Served) -> Served:
    """Write the record, if every stage passed.

    Raises:
        ParityError: one did not.
        StorageError: disk full, no permission.
    """

    def explain(failed: StageResult) -> tuple[str, str]:
        return (
            f"what was written for {record.server} does not answer as the bundle does and was not kept: "
            f"{failed.stage}: {failed.reason}",
            "rmatk parity BUNDLE says whether the bundle itself still agrees with PyTorch",
        )

    require_passed(record.stages, explain)
    data = msgspec.json.format(msgspec.json.encode(record), indent=2)
    write_atomic(folder / marker(record.server), data + b"\n")
    return record


def label_file(names: Sequence[str], separator: str) -> bytes:
    """Class names as the servers read them: in order, parted by ``separator``.

    Raises:
        ExportError: a name holds a separator or a line's end, so it would be read as two.
    """
    for name in names:
        if separator in name or "\n" in name or "\r" in name:
            raise ExportError(
                f"the label {name!r} cannot be written: {separator!r} and line ends part labels there",
                "rename it: rmatk labels BUNDLE rename OLD NEW",
            )
    return (separator.join(names) + "\n").encode()
