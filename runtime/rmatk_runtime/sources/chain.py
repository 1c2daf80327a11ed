"""Sources that combine others: one after another, or repeated."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rmatk_runtime.errors import RmatkError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import COUNTS, Source, SourceInfo

log = logging.getLogger(__name__)


class ChainSource(Source):
    """The frames of each source in turn; ``index``, ``time`` and ``source`` stay those of the part."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        infos = [source.info for source in sources]
        counts = [info.frames for info in infos if info.frames is not None]
        rates = {info.rate for info in infos}
        self.info = SourceInfo(
            name=f"{len(infos)} sources, the first {infos[0].name}",
            size=None,
            rate=rates.pop() if len(rates) == 1 else None,
            frames=sum(counts) if len(counts) == len(infos) else None,
            live=all(info.live for info in infos),  # of a file beside a camera nothing may be lost
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield every source's frames; each is closed when it ends.

        Raises:
            RmatkError: a live source is lost, or nothing at all could be read.
        """
        failure: RmatkError | None = None
        came = False
        for source in self._sources:
            try:
                for frame in source:
                    self.state, came = source.state, True
                    self._count()
                    yield frame
            except RmatkError as error:
                if source.info.live:
                    raise
                failure = error
                log.warning("passed over: %s", error.message)
            self._count()
            source.close()
        if failure is not None and not came:
            raise failure

    def _count(self) -> None:
        for name in COUNTS:
            setattr(self, name, sum(getattr(source, name) for source in self._sources))

    def close(self) -> None:
        """Close all of them."""
        for source in self._sources:
            source.close()


class LoopSource(Source):
    """The frames of a source that may be iterated again, for ever; ``index`` and ``time`` go on."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.info = replace(source.info, frames=None)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames of one round after another."""
        step = 1 / self.info.rate if self.info.rate else 0.0
        first, since = 0, 0.0
        while True:
            index, time = first, since
            for frame in self._source:
                shown = replace(frame, index=first + frame.index, time=since + frame.time)
                index, time = max(index, shown.index), max(time, shown.time)
                self._count()
                yield shown
            self._count()
            first, since = index + 1, time + step

    def _count(self) -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self._source, name))

    def close(self) -> None:
        """Close the source."""
        self._source.close()
