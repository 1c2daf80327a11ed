"""The contract of every inference engine: normalised images in, unit-length embeddings out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType

from rmatk_runtime.arrays import Float32, UInt8


@dataclass(frozen=True)
class DeviceTimes:
    """Milliseconds on the GPU: copying to it, computing, copying from it."""

    upload: float = 0.0
    compute: float = 0.0
    download: float = 0.0

    def __add__(self, other: DeviceTimes) -> DeviceTimes:
        return DeviceTimes(
            self.upload + other.upload, self.compute + other.compute, self.download + other.download
        )


class Backend(ABC):
    """A context manager around a loaded image encoder.

    ``name`` says what really runs (for example ``onnxruntime cpu``), as the engine itself
    reports it after loading: engines fall back silently when asked for a device they cannot use. ``size``:
    bytes of the graph or engine that was loaded. ``times``: what the last :meth:`embed` took on the device,
    where the engine tells.
    """

    name: str
    size: int = 0
    times: DeviceTimes | None = None

    @abstractmethod
    def embed(self, images: Float32 | UInt8) -> Float32:
        """Encode a batch.

        Args:
            images: (N, 3, H, W) float32, normalised, N >= 1; for a graph or engine on pixels (N, H, W, 3)
                uint8 RGB at the network's size.

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
