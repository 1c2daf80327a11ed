"""What tools/gpu_check.py writes down: rows of parity and times, and what was not run, with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.parity.stage import StageResult


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One batch size: milliseconds per call; ``device``: upload, compute and download of the last."""

    batch: int
    rounds: int
    p50_ms: float
    p90_ms: float
    images_per_second: float
    device_ms: dict[str, float] | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the image encoder.

    ``start_ms``: from opening to the first result, ``restart_ms``: the same once more, when engines and
    kernels that were kept are there; ``memory_mb``: GPU memory it took, weights and buffers.
    """

    what: str
    precision: str
    parity: StageResult | None = None
    timings: tuple[Timing, ...] = ()
    start_ms: float | None = None
    restart_ms: float | None = None
    memory_mb: float | None = None
    build_seconds: float | None = None
    engine_mb: float | None = None


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What was not run, and why."""

    what: str
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The file that is written."""

    date: str
    machine: str
    gpu: Gpu | None
    driver_cuda: str | None
    versions: dict[str, str | None]
    model: str
    rounds: int
    rows: list[Row]
    not_run: list[Missing]


def lines(report: Report) -> Iterator[str]:
    """A report for people: one line for each row and each reason."""
    for row in report.rows:
        parity = "" if row.parity is None else ", parity ok" if row.parity else f", {row.parity.reason}"
        times = ", ".join(f"{timing.p50_ms:.2f} ms at {timing.batch}" for timing in row.timings)
        yield f"{row.what} {row.precision}: {times}{parity}"
    for missing in report.not_run:
        yield f"not run: {missing.what}: {missing.reason}"
