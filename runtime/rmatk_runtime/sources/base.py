"""The contract of every source of frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from rmatk_runtime.frames import Frame


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


class Source(ABC):
    """A context manager that yields frames in order; iterate once, close when done.

    ``skipped`` counts what could not be read and was passed over, so that no loss goes unreported.
    """

    info: SourceInfo
    skipped: int = 0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the source ends. Raises SourceError where one cannot be read."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Release what the source holds; calling it twice does no harm."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
