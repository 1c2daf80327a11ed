"""The contract of every sink of predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from rmatk_runtime.frames import Frame, Prediction


class Sink(ABC):
    """A context manager that takes frames with their predictions, in order."""

    @abstractmethod
    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Take one result. Raises SinkError where it cannot be written."""

    def idle(self) -> None:  # noqa: B027 - most sinks have nothing to look after
        """Called about ten times a second while no result comes: a lost camera must not freeze a window."""

    def close(self) -> None:  # noqa: B027 - some sinks hold nothing
        """Finish and release; calling it twice does no harm."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
