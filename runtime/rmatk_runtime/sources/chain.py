"""Several sources, one after another, as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import Source, SourceInfo


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
            live=any(info.live for info in infos),
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield every source's frames; each is closed when it ends."""
        for source in self._sources:
            yield from source
            self.skipped += source.skipped
            source.close()

    def close(self) -> None:
        """Close all of them."""
        for source in self._sources:
            source.close()
