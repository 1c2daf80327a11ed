"""The contract of every inference engine: normalised images in, unit-length embeddings out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from rmatk_runtime.preprocess import Float32


class Backend(ABC):
    """A context manager around a loaded image encoder.

    ``name`` says what really runs (for example ``onnxruntime cpu``), as the engine itself
    reports it after loading: engines fall back silently when asked for a device they cannot use.
    """

    name: str

    @abstractmethod
    def embed(self, images: Float32) -> Float32:
        """Encode a batch.

        Args:
            images: (N, 3, H, W) float32, normalised, N >= 1.

        Returns:
            (N, D) float32, unit length.

        Raises:
            BackendError: wrong shape, or the engine failed.
        """

    def close(self) -> None:  # noqa: B027 - some engines hold nothing
        """Release the engine; calling it twice does no harm."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
