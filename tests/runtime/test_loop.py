from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from rmatk_runtime.errors import BackendError, RmatkError, SinkError, SourceError
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.loop import Summary, run
from rmatk_runtime.preprocess import UInt8
from rmatk_runtime.sinks import Sink
from rmatk_runtime.sources import Source, SourceInfo


class FakeSource(Source):
    """Frames whose grey level is their index; raises ``error`` after the last."""

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self.info = SourceInfo("fake", (4, 4), 10.0, count, live=False)
        self.error = error
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.info.frames or 0):
            self.taken += 1
            yield Frame(np.full((4, 4, 3), index, np.uint8), index, index / 10, "fake")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


class FakeClassifier:
    """Even grey levels are ``even``, odd ones ``odd``, multiples of 5 are rejected; notes batch sizes."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.batches: list[int] = []
        self.error = error

    def classify(self, images: Sequence[UInt8]) -> list[Prediction]:
        self.batches.append(len(images))
        if self.error is not None and len(self.batches) == 2:
            raise self.error
        return [self._one(int(image[0, 0, 0])) for image in images]

    def _one(self, level: int) -> Prediction:
        label = "odd" if level % 2 else "even"
        return Prediction((Score(label, 0.9),), rejected=level % 5 == 0)


class ListSink(Sink):
    """Keeps what it is given; raises ``error`` at index ``at``."""

    def __init__(self, at: int = -1, error: BaseException | None = None) -> None:
        self.seen: list[int] = []
        self.labels: list[str | None] = []
        self.at, self.error = at, error
        self.closed = 0

    def write(self, frame: Frame, prediction: Prediction) -> None:
        if frame.index == self.at and self.error is not None:
            raise self.error
        self.seen.append(frame.index)
        self.labels.append(prediction.label)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (10, [7])])
def test_results_are_the_same_and_in_order_for_any_batch(batch: int, sizes: list[int]) -> None:
    classifier, sinks, source = FakeClassifier(), [ListSink(), ListSink()], FakeSource(7)
    summary = run(source, classifier, sinks, batch=batch)
    assert classifier.batches == sizes
    for sink in sinks:
        assert sink.seen == list(range(7))
        assert sink.labels == [None, "odd", "even", "odd", "even", None, "even"]
        assert sink.closed == 1
    assert source.closed
    assert summary.frames == 7 and not summary.interrupted
    assert summary.labels == {"even": 3, "odd": 2} and summary.rejected == 2


def test_every_and_max_frames_pick_and_stop() -> None:
    sink, source = ListSink(), FakeSource(100)
    summary = run(source, FakeClassifier(), [sink], batch=2, every=3, max_frames=5)
    assert sink.seen == [0, 3, 6, 9, 12]
    assert summary.frames == 5
    assert source.taken == 13  # nothing is read beyond what is needed


def test_on_frame_comes_after_the_sinks() -> None:
    sink = ListSink()
    told: list[tuple[int, int]] = []
    run(
        FakeSource(3),
        FakeClassifier(),
        [sink],
        on_frame=lambda frame, _: told.append((frame.index, len(sink.seen))),
    )
    assert told == [(0, 1), (1, 2), (2, 3)]


def test_stages_are_timed_per_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("rmatk_runtime.loop.time.perf_counter", lambda: clock[0])

    class SlowClassifier(FakeClassifier):
        def classify(self, images: Sequence[UInt8]) -> list[Prediction]:
            clock[0] += 0.030
            return super().classify(images)

    class SlowSink(ListSink):
        def write(self, frame: Frame, prediction: Prediction) -> None:
            clock[0] += 0.001 if frame.index < 5 else 0.011

    summary = run(FakeSource(6), SlowClassifier(), [SlowSink()], batch=3)
    assert set(summary.stages) == {"read", "classify", "write"}
    assert summary.stages["classify"].median == pytest.approx(10.0)
    assert summary.stages["write"].median == pytest.approx(1.0)
    assert summary.stages["write"].p90 == pytest.approx(6.0)
    assert summary.seconds == pytest.approx(0.076)


def test_skipped_inputs_are_in_the_summary() -> None:
    source = FakeSource(2)
    source.skipped = 3
    assert run(source, FakeClassifier(), []).skipped == 3


def test_nothing_to_do_is_no_error() -> None:
    sink = ListSink()
    summary = run(FakeSource(0), FakeClassifier(), [sink])
    assert isinstance(summary, Summary) and summary.frames == 0 and sink.closed == 1


def test_ctrl_c_ends_cleanly_wherever_it_strikes() -> None:
    for source, classifier, sink, written in (
        (FakeSource(5, KeyboardInterrupt()), FakeClassifier(), ListSink(), [0, 1, 2, 3]),
        (FakeSource(9), FakeClassifier(KeyboardInterrupt()), ListSink(), [0, 1]),
        (FakeSource(9), FakeClassifier(), ListSink(3, KeyboardInterrupt()), [0, 1, 2]),
    ):
        summary = run(source, classifier, [sink], batch=2)
        assert summary.interrupted
        assert sink.seen == written and summary.frames == len(written)
        assert sink.closed == 1 and source.closed


@pytest.mark.parametrize(
    ("source", "classifier", "sink", "written"),
    [
        # What was read before the damage is still classified and written
        (FakeSource(5, SourceError("cut")), FakeClassifier(), ListSink(), [0, 1, 2, 3, 4]),
        (FakeSource(9), FakeClassifier(BackendError("no")), ListSink(), [0, 1]),
        (FakeSource(9), FakeClassifier(), ListSink(3, SinkError("full")), [0, 1, 2]),
    ],
)
def test_errors_close_everything_and_pass_through(
    source: FakeSource, classifier: FakeClassifier, sink: ListSink, written: list[int]
) -> None:
    other = ListSink()
    with pytest.raises(RmatkError):
        run(source, classifier, [other, sink], batch=2)
    assert sink.seen == written
    assert source.closed and sink.closed == other.closed == 1


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"every": 0}, {"max_frames": 0}])
def test_numbers_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run(FakeSource(1), FakeClassifier(), [], **wrong)
