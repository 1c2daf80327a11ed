"""The settings of ``rmatk infer`` but for its inputs and outputs, validated together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rmatk_runtime.bundle.label_head import label_problems
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.settings import above, at_least, require
from rmatk_runtime.sources import names_files, split_name
from rmatk_runtime.sources.base import Source

FILE_BATCH = 8
"""Frames per call of the engine for files: on a CPU 4 gain a fifth over 1, and 16 no more; TensorRT engines
are built for up to 8 by default."""


class InferConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a source is classified.

    Raises:
        ConfigError: on construction, naming every field whose value cannot be used.
    """

    backend: str = "auto"
    """See :func:`~rmatk_runtime.selection.open_backend`."""
    precision: Precision | None = None
    """Which of the bundle's graphs; None: the first."""
    allow_cpu: bool = False
    """Accept the CPU where a GPU backend was asked for but cannot start."""
    top_k: int = 5
    """Labels per prediction, at most as many as there are classes."""
    threshold: float | None = None
    """Reject below this probability; None: the bundle's own."""
    batch: int | None = None
    """Frames per call of the engine, at most; None: one of each live source, since a batch of one camera adds
    latency, and :data:`FILE_BATCH` for files."""
    every: int = 1
    """Classify frames 0, ``every``, 2 ``every``, ... of each source."""
    max_frames: int | None = None
    """Stop after this many frames."""
    duration: float | None = None
    """Stop after this many seconds."""
    smooth: float | None = None
    """Half-life in seconds of temporal smoothing."""

    def __post_init__(self) -> None:
        require(
            *label_problems(self.top_k, self.threshold),
            *at_least(1, batch=self.batch, every=self.every, max_frames=self.max_frames),
            *above(0, duration=self.duration, smooth=self.smooth),
        )

    def size(self, source: Source) -> int:
        """Frames per call of the engine, at most, for a source."""
        live = min(len(source.cameras), FILE_BATCH)
        return self.batch or (live if source.info.live else FILE_BATCH)

    def expected_size(self, uris: Sequence[str]) -> int:
        """The same, before the source is open: for the choice of an engine."""
        sources = [split_name(uri)[1] for uri in uris]
        files = sum(map(names_files, sources))
        cameras = len(sources) - files + (files > 0)
        return self.batch or (FILE_BATCH if files == len(sources) else min(cameras, FILE_BATCH))
