"""Several sources at once: the frames of all as they come, each with the name of its camera.

Every source is read by a thread of its own, and connects there, so that one that is dead, slow or being tried
again holds up no other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sources.base import Lane, Source, SourceInfo, SourceState

log = logging.getLogger(__name__)


class SeveralSources(Source):
    """One frame of each source in turn, of those that have one; of files none is lost.

    A camera that gave up and a file that ended leave the others running; what went wrong with one is logged
    when it happens, and raised when all have ended.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        names = ", ".join(sources)
        self.info = SourceInfo(names, size=None, rate=None, frames=None, live=True)
        self._changed = threading.Condition()
        self._lanes: dict[str, Lane[Any]] = {}
        self._error: SourceError | None = None
        self._closing = False

    @property
    def cameras(self) -> Mapping[str, Source]:
        """Each source by its name."""
        return self._sources

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until all sources have ended.

        Raises:
            SourceError: the first thing that went wrong with one of them, after the others have ended.
        """
        self._lanes = {name: source.begin(self._changed) for name, source in self._sources.items()}
        while self._lanes and not self._closing:
            with self._changed:
                self._changed.wait_for(self.has_more)
            for name in list(self._lanes):
                if (frame := self._take(name)) is not None:
                    yield replace(frame, camera=name)
        if self._error is not None and not self._closing:
            raise self._error

    def has_more(self) -> bool:
        """Is a frame, or an end, there already?"""
        return self._closing or any(lane.arrivals.ready for lane in self._lanes.values())

    def _take(self, name: str) -> Frame | None:
        """The frame that waits in a lane, if one does; a lane that has ended is taken away."""
        lane = self._lanes[name]
        try:
            arrivals = lane.arrivals.take_ready()
        except SourceError as error:
            self._sources[name].state = SourceState.GAVE_UP
            log.error("%s: %s", name, error.message)
            self._error = self._error or error
            arrivals = None
        if arrivals is None:
            del self._lanes[name]
            return None
        return lane.frame(arrivals[0]) if arrivals else None

    def close(self) -> None:
        """Close all of them at the same time, within a second."""
        self._closing = True
        with self._changed:
            self._changed.notify_all()
        for lane in self._lanes.values():
            lane.arrivals.close()
        threads = [
            threading.Thread(target=source.close, name="rmatk-close", daemon=True)
            for source in self._sources.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
