"""The contract of every source of frames."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Generic, TypeVar

from rmatk_runtime.frames import Frame
from rmatk_runtime.prefetch import Prefetch

T = TypeVar("T")


@dataclass(frozen=True)
class SourceInfo:
    """What is known before the first frame; ``None`` where it is not.

    ``size``: (width, height) pixels. ``rate``: frames per second. ``frames``: how many there will be.
    ``live``: true where frames not taken in time are lost (cameras), false where none may be (files).
    """

    name: str
    size: tuple[int, int] | None
    rate: float | None
    frames: int | None
    live: bool


class SourceState(Enum):
    """Where a source stands; files are always ``LIVE``."""

    CONNECTING = "connecting"  # opened, and no picture has come yet
    LIVE = "live"
    FROZEN = "frozen"  # pictures come, and each is equal to the one before
    LOST = "lost"  # being tried again
    GAVE_UP = "gave up"


COUNTS = ("captured", "damaged", "dropped", "out_of_range")
"""What every :class:`Source` counts."""


@dataclass(frozen=True)
class Lane(Generic[T]):
    """A source being read by a thread: what arrives, and how it becomes a frame (None: damaged)."""

    arrivals: Prefetch[T]
    frame: Callable[[T], Frame | None]


class Source(ABC):
    """A context manager that yields frames in order; iterate once, close when done.

    No loss goes unreported: ``captured`` counts every picture that came or should have come, ``damaged``
    those that could not be read, ``dropped`` those that a live source replaced by a newer one before they
    were taken, ``out_of_range`` those passed over as asked (``--start``, ``--stop``, ``--stride``,
    ``--rate``). The others are given. ``frozen``: seconds for which the pictures of a live source stood
    still. ``state`` changes while a live source is iterated, and may be read from any thread.
    """

    info: SourceInfo
    captured: int = 0
    damaged: int = 0
    dropped: int = 0
    out_of_range: int = 0
    frozen: float = 0.0
    state: SourceState = SourceState.LIVE

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the source ends. Raises SourceError where one cannot be read."""

    @property
    def cameras(self) -> Mapping[str, Source]:
        """The sources that this one consists of, by name; the empty name is that of one alone."""
        return {"": self}

    def begin(self, changed: threading.Condition) -> Lane[Any]:
        """Read in a thread, in the place of iterating; ``changed`` is notified of each arrival."""
        return Lane(Prefetch(self, f"read {self.info.name}", changed=changed), lambda frame: frame)

    def has_more(self) -> bool:
        """Whether a batch shall wait for another frame; no where it may never come."""
        return True

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Release what the source holds; calling it twice does no harm.

        A live source may be closed from another thread than the one that iterates, which then ends.
        """

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
