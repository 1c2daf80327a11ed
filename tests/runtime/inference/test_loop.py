"""The running loop: order, limits, what is dropped and what never is, errors, and the end from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import BackendError, RmatkError, SinkError, SourceError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.config import InferConfig
from rmatk_runtime.inference.loop import Stop, run
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.sinks import Sink
from rmatk_runtime.sources import Source, SourceInfo

SPEC = PreprocessSpec(4, 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LABELS = ClassMatrix(("even", "odd"), np.eye(2, dtype=np.float32))
SECONDS = 20.0


class FakeSource(Source):
    """Frames whose grey level is their index; raises ``error`` after the last."""

    def __init__(self, count: int, error: BaseException | None = None, *, live: bool = False) -> None:
        self.info = SourceInfo("fake", (4, 4), 10.0, count, live=live)
        self.error = error
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.info.frames or 0):
            self.taken += 1
            yield Frame(np.full((4, 4, 3), index % 256, np.uint8), index, index / 10, "fake")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


class EvenOrOdd(Backend):
    """Tells even from odd grey levels; notes batch sizes; raises ``error`` at its second batch."""

    name = "even or odd"

    def __init__(self, error: BaseException | None = None) -> None:
        self.batches: list[int] = []
        self.error = error

    def embed(self, images: Float32) -> Float32:
        self.batches.append(len(images))
        if self.error is not None and len(self.batches) == 2:
            raise self.error
        levels = np.rint(images[:, 0, 0, 0] * 255).astype(int)
        return np.eye(2, dtype=np.float32)[levels % 2]


def classifier(backend: Backend | None = None) -> Classifier:
    return Classifier(backend or EvenOrOdd(), SPEC, LabelHead(LABELS, Decision(logit_scale=5.0)))


class ListSink(Sink):
    """Keeps what it is given; raises ``error`` at index ``at``."""

    def __init__(self, at: int = -1, error: BaseException | None = None) -> None:
        self.seen: list[int] = []
        self.predictions: list[Prediction] = []
        self.at, self.error = at, error
        self.closed = 0

    def write(self, frame: Frame, prediction: Prediction) -> None:
        if frame.index == self.at and self.error is not None:
            raise self.error
        self.seen.append(frame.index)
        self.predictions.append(prediction)

    def close(self) -> None:
        self.closed += 1


def loop_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rmatk-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert loop_threads() == []


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (10, [7])])
def test_results_are_the_same_and_in_order_for_any_batch(batch: int, sizes: list[int]) -> None:
    backend, sinks, source = EvenOrOdd(), [ListSink(), ListSink()], FakeSource(7)
    summary = run(source, classifier(backend), sinks, InferConfig(batch=batch))
    assert backend.batches == sizes
    for sink in sinks:
        assert sink.seen == list(range(7))
        assert [p.label for p in sink.predictions] == ["even", "odd"] * 3 + ["even"]
        assert sink.closed == 1
    assert source.closed
    assert summary.frames == 7 and summary.ended is None
    assert summary.labels == {"even": 4, "odd": 3} and summary.rejected == 0
    assert set(summary.stages) == {"read", "prepare", "infer", "write"}


def test_every_and_max_frames_pick_and_stop() -> None:
    sink, source = ListSink(), FakeSource(100)
    summary = run(source, classifier(), [sink], InferConfig(batch=2, every=3, max_frames=5))
    assert sink.seen == [0, 3, 6, 9, 12]
    assert summary.frames == 5
    assert source.taken == 13  # nothing is read beyond what is needed


def test_duration_ends_a_source_that_never_does() -> None:
    start = time.monotonic()
    summary = run(FakeSource(10**9), classifier(), [ListSink()], InferConfig(duration=0.2))
    assert summary.frames > 0 and summary.ended is None and time.monotonic() - start >= 0.2


def test_stages_overlap() -> None:
    """Frame 2 is read, frame 1 prepared and frame 0 classified at the same time, or the barrier breaks."""
    together = threading.Barrier(3, timeout=SECONDS)

    class Reading(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                if frame.index == 2:
                    together.wait()
                yield frame

    class Preparing(Classifier):
        def prepare(self, images):  # type: ignore[no-untyped-def]
            if int(images[0][0, 0, 0]) == 1:
                together.wait()
            return super().prepare(images)

    class Inferring(EvenOrOdd):
        def embed(self, images: Float32) -> Float32:
            if not self.batches:
                together.wait()
            return super().embed(images)

    busy = Preparing(Inferring(), SPEC, LabelHead(LABELS, Decision(logit_scale=5.0)))
    assert run(Reading(5), busy, [], InferConfig(batch=1)).frames == 5


def test_a_slow_sink_holds_a_file_back_and_loses_nothing() -> None:
    source = FakeSource(60)

    class Slow(ListSink):
        def write(self, frame: Frame, prediction: Prediction) -> None:
            # in the hands of four stages and in stock between them
            assert source.taken <= frame.index + 8
            super().write(frame, prediction)

    sink = Slow()
    summary = run(source, classifier(), [sink], InferConfig(batch=1))
    assert sink.seen == list(range(60)) and summary.dropped == 0


def test_a_live_source_drops_frames_while_the_engine_is_busy_and_classifies_the_newest() -> None:
    release = threading.Event()

    class Camera(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            yield from super().__iter__()
            release.set()

    class Busy(EvenOrOdd):
        def embed(self, images: Float32) -> Float32:
            if not self.batches:
                assert release.wait(SECONDS)  # busy with the first frame while all others come
            return super().embed(images)

    sink = ListSink()
    summary = run(Camera(50, live=True), classifier(Busy()), [sink])
    assert len(sink.seen) <= 2 and sink.seen[-1] == 49  # the first may have been dropped before it was taken
    assert summary.frames + summary.dropped == 50


def test_latency_counts_from_capture_where_the_source_is_live() -> None:
    class Late(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                yield Frame(frame.image, frame.index, frame.time, frame.source, time.monotonic() - 5.0)

    for live in (False, True):
        sink = ListSink()
        summary = run(Late(1, live=live), classifier(), [sink])
        (latency,) = [prediction.latency for prediction in sink.predictions]
        if live:
            assert latency is not None and 5.0 <= latency < 5.0 + SECONDS
            assert summary.latency is not None and summary.latency.p50 == pytest.approx(1e3 * latency)
        else:
            assert latency is None and summary.latency is None


def test_smoothing_comes_before_the_answer() -> None:
    sink = ListSink()
    run(FakeSource(3), classifier(), [sink], InferConfig(smooth=1e6))
    assert [prediction.label for prediction in sink.predictions] == ["even"] * 3
    assert sink.predictions[2].top[0].probability == pytest.approx(0.9933, abs=1e-3)


def test_labels_may_change_between_two_batches() -> None:
    class Relabelled(Classifier):
        asked = 0

        def refresh(self) -> None:
            self.asked += 1
            if self.asked == 3:
                names = ClassMatrix(("straight", "odd"), np.eye(2, dtype=np.float32))
                self.head = LabelHead(names, Decision(logit_scale=5.0))

    sink = ListSink()
    running = Relabelled(EvenOrOdd(), SPEC, LabelHead(LABELS, Decision(logit_scale=5.0)))
    run(FakeSource(4), running, [sink], InferConfig(batch=1, smooth=1e6))
    assert [prediction.label for prediction in sink.predictions] == ["even", "even", "straight", "straight"]


def test_skipped_and_dropped_inputs_are_in_the_summary() -> None:
    source = FakeSource(2)
    source.damaged, source.dropped = 3, 4
    summary = run(source, classifier(), [])
    assert (summary.skipped, summary.dropped) == (3, 4)


def test_nothing_to_do_is_no_error() -> None:
    sink = ListSink()
    summary = run(FakeSource(0), classifier(), [sink])
    assert summary.frames == 0 and sink.closed == 1


def test_ctrl_c_in_a_sink_ends_cleanly() -> None:
    source, sink = FakeSource(9), ListSink(3, KeyboardInterrupt())
    summary = run(source, classifier(), [sink], InferConfig(batch=2))
    assert summary.ended == "interrupted"
    assert sink.seen == [0, 1, 2] and summary.frames == 3
    assert sink.closed == 1 and source.closed


@pytest.mark.parametrize("live", [False, True])
def test_an_end_asked_for_is_met_and_told(live: bool) -> None:
    stop = Stop()

    class Asking(ListSink):
        def write(self, frame: Frame, prediction: Prediction) -> None:
            super().write(frame, prediction)
            if len(self.seen) == 4:
                stop.ask("closed")
                stop.ask("later")

    sink = Asking()
    summary = run(FakeSource(10**9, live=live), classifier(), [sink], InferConfig(batch=3), stop)
    assert summary.ended == "closed" and summary.frames == 4 and sink.closed == 1


def test_an_end_asked_for_is_met_while_a_camera_gives_nothing() -> None:
    stop = Stop()

    class Blocked(FakeSource):
        def __init__(self) -> None:
            super().__init__(1, live=True)
            self.released = threading.Event()

        def __iter__(self) -> Iterator[Frame]:
            yield from super().__iter__()
            assert self.released.wait(SECONDS)

        def close(self) -> None:
            self.released.set()
            super().close()

    class Waiting(ListSink):
        idled = 0

        def idle(self) -> None:
            self.idled += 1
            if self.idled == 2:
                stop.ask("terminated")

    source, sink = Blocked(), Waiting()
    start = time.monotonic()
    summary = run(source, classifier(), [sink], None, stop)
    assert summary.ended == "terminated" and sink.seen == [0] and sink.idled == 2
    assert source.closed and time.monotonic() - start < SECONDS / 2


def test_a_read_that_cannot_be_ended_is_left_behind() -> None:
    stop, release = Stop(), threading.Event()

    class Stuck(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            release.wait()
            yield from ()

    class Impatient(ListSink):
        def idle(self) -> None:
            stop.ask("interrupted")

    source, sink = Stuck(0), Impatient()
    assert run(source, classifier(), [sink], None, stop).ended == "interrupted"
    assert sink.closed == 1
    assert not source.closed  # not under the thread that still reads from it
    release.set()
    while loop_threads():
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("source", "backend", "sink", "written"),
    [
        # What was read before the damage is still classified and written
        (FakeSource(5, SourceError("cut")), EvenOrOdd(), ListSink(), [0, 1, 2, 3, 4]),
        (FakeSource(9), EvenOrOdd(BackendError("no")), ListSink(), [0, 1]),
        (FakeSource(9), EvenOrOdd(), ListSink(3, SinkError("full")), [0, 1, 2]),
        (FakeSource(10**9), EvenOrOdd(BackendError("no")), ListSink(), [0, 1]),
    ],
)
def test_errors_close_everything_and_pass_through(
    source: FakeSource, backend: EvenOrOdd, sink: ListSink, written: list[int]
) -> None:
    other = ListSink()
    with pytest.raises(RmatkError):
        run(source, classifier(backend), [other, sink], InferConfig(batch=2))
    assert sink.seen == written
    assert source.closed and sink.closed == other.closed == 1


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    import tracemalloc

    class Measuring(ListSink):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def write(self, frame: Frame, prediction: Prediction) -> None:
            if frame.index % 250 == 249:
                self.sizes.append(tracemalloc.get_traced_memory()[0])

    sink = Measuring()
    tracemalloc.start()
    try:
        run(FakeSource(2000), classifier(), [sink], InferConfig(batch=8))
    finally:
        tracemalloc.stop()
    # The times kept for percentiles, 5 stages of 8 bytes and a float each, are the only growth
    assert sink.sizes[-1] - sink.sizes[1] < 1500 * 5 * 64


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"every": 0}, {"max_frames": 0}, {"duration": 0.0}, {"smooth": -1.0}]
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InferConfig(**wrong)  # type: ignore[arg-type]
