"""CUDA itself: bytes travel, graphs replay, too much memory is a named error."""

from __future__ import annotations

import numpy as np
import pytest

from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.cuda import Cuda, DeviceBuffer, Event, PinnedBuffer, Stream
from rmatk_runtime.nvidia.driver import Gpu

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda(gpu: Gpu) -> Cuda:
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    return Cuda.load()


def test_a_captured_copy_is_done_at_each_launch(cuda: Cuda):
    with (
        Stream(cuda) as stream,
        PinnedBuffer(cuda, (1000,), np.dtype(np.float32)) as source,
        PinnedBuffer(cuda, (1000,), np.dtype(np.float32)) as target,
        DeviceBuffer(cuda, 4000) as device,
        Event(cuda) as before,
        Event(cuda) as after,
    ):

        def copy() -> None:
            stream.upload(device, source, 4000)
            stream.download(target, device, 4000)

        target.array[:] = 0
        source.array[:] = 1
        with stream.capture(copy) as graph:
            stream.wait()
            assert not target.array.any()
            for value in (1, 2):
                source.array[:] = value
                stream.record(before)
                stream.launch(graph)
                stream.record(after)
                stream.wait()
                assert (target.array == value).all()
                assert after.milliseconds_since(before) > 0


def test_too_much_memory_is_named(cuda: Cuda):
    with pytest.raises(BackendError, match=r"cudaMalloc failed: .*cudaErrorMemoryAllocation") as caught:
        DeviceBuffer(cuda, 1 << 50)
    assert "--batch" in str(caught.value.hint)
    DeviceBuffer(cuda, 1 << 20).close()  # and the device goes on
