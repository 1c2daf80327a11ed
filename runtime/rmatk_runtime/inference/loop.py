"""The loop: frames from a source, through the classifier, to the sinks, in order, in overlapping threads.

    read ----------> prepare ----------> infer ----------> sinks
    decode, convert  resize, normalise   embed, answer     the caller's thread

Each arrow hands over one batch at a time (:class:`~rmatk_runtime.prefetch.Prefetch`), so memory is bounded
and the slowest stage sets the pace. Decoding, resizing and engines release the GIL, so the stages really
overlap. From files nothing is lost. A live source is not read ahead, and a prepared frame gives way to a
newer one: what is classified is what the camera sees now.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from rmatk_runtime.arrays import Float32
from rmatk_runtime.errors import RmatkError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.config import InferConfig
from rmatk_runtime.inference.regions import Regions
from rmatk_runtime.inference.smoothing import Smoother
from rmatk_runtime.inference.summary import Summary, Tally, Times
from rmatk_runtime.prefetch import Prefetch
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sources.base import Source

log = logging.getLogger(__name__)

IDLE = 0.1
"""Seconds without a result after which the sinks may look after themselves, and an end asked for is seen."""
_GRACE = 0.5
"""Seconds that reading is given to end; a thread that a camera's driver holds longer is left behind."""
ENGINE_SECONDS = 30.0
"""Seconds that the engine is given to end its work: C++ that runs on while the interpreter ends aborts it."""


class Stop:
    """Asks a loop to end, from any thread, sink or signal handler: an assignment, which cannot deadlock."""

    reason: str | None = None

    def ask(self, reason: str) -> None:
        """End soon; the first reason given is kept."""
        self.reason = self.reason or reason


def run(
    source: Source,
    classifier: Classifier,
    sinks: Sequence[Sink],
    options: InferConfig | None = None,
    stop: Stop | None = None,
    tally: Tally | None = None,
    regions: Regions | None = None,
) -> Summary:
    """Classify a source's frames and hand each result to every sink, in order.

    Args:
        source: read until its end and closed.
        classifier: stays open; takes over labels that change meanwhile.
        sinks: called from this thread, and closed at the end, whatever happens.
        options: batch, limits, smoothing.
        stop: ends the run within a second, and is reported in the summary, as Ctrl-C is.
        tally: what is counted while the loop runs, for those who look on.
        regions: parts of the pictures to be classified in their place.

    Raises:
        RmatkError: what the source, the classifier or a sink raises; the sinks are closed before.
    """
    options, stop, tally = options or InferConfig(), stop or Stop(), tally or Tally()
    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)
        stages = _start(source, classifier, options, tally, regions or Regions())
        stack.callback(_end, stages, source)
        try:
            exhausted = _deliver(stages, source, sinks, options, stop, tally)
        except KeyboardInterrupt:
            stop.ask("interrupted")
            exhausted = False
    tally.note(source)
    if not exhausted:
        tally.leave_the_rest()
    return tally.summary(ended=stop.reason)


_Results = list[tuple[Frame, Prediction]]


def _start(
    source: Source, classifier: Classifier, options: InferConfig, tally: Tally, regions: Regions
) -> list[Prefetch[Any]]:
    """Set the threads to work; the last stage gives lists of results."""
    live, times = source.info.live, tally.stages
    batches = _read(source, options, tally)
    # A live source has a thread of its own, and is asked for a frame only when one is wanted
    read = None if live else Prefetch(batches, "read")
    # Of several cameras a prepared batch may not give way: the next one need not hold the same cameras
    prepared = Prefetch(
        _prepare(read or batches, classifier, regions, times["prepare"]),
        "prepare",
        newest=live and "" in source.cameras,
        on_drop=lambda item: tally.give_way(item[0]),
    )
    smoother = None if options.smooth is None else Smoother(options.smooth)
    results = Prefetch(_infer(prepared, classifier, smoother, times["infer"]), "infer")
    return [stage for stage in (read, prepared, results) if stage is not None]


def _end(stages: Sequence[Prefetch[Any]], source: Source) -> None:
    """End the threads, also while a camera keeps one waiting, and close the source."""
    for stage in stages:
        stage.close()
    if source.info.live:
        source.close()
    deadline = time.monotonic() + _GRACE
    ended = all([stage.join(max(0.0, deadline - time.monotonic())) for stage in stages[:-1]])
    if not stages[-1].join(ENGINE_SECONDS):
        log.error("the engine does not answer for %.0f s, and is left behind", ENGINE_SECONDS)
    if ended:
        source.close()  # never under a thread that reads from it


def _read(source: Source, options: InferConfig, tally: Tally) -> Iterator[list[Frame]]:
    """Gather every ``every``-th frame into batches; the last may be smaller."""
    # Of a live source frames may yet be dropped, so only the results can be counted
    limit = None if source.info.live else options.max_frames
    size = options.size(source)
    frames: list[Frame] = []
    taken = 0
    iterator = iter(source)
    while limit is None or taken < limit:
        try:
            with tally.stages["read"].of(1):
                frame = next(iterator, None)
        except RmatkError:
            if frames:  # what was read before the damage still counts
                yield frames
            raise
        if frame is None:
            break
        if frame.index % options.every:
            tally.pass_over(frame)
        else:
            frames.append(frame)
            taken += 1
        if frames and (len(frames) == size or not source.has_more()):
            yield frames
            frames = []
    if frames:
        yield frames


def _prepare(
    batches: Iterable[list[Frame]], classifier: Classifier, regions: Regions, times: Times
) -> Iterator[tuple[list[Frame], Float32]]:
    """Each batch with its tensors (N, 3, H, W), one for each region of each frame."""
    for batch in batches:
        with times.of(len(batch)):
            frames = [part for frame in batch for part in regions.split(frame)]
            tensors = classifier.prepare([frame.looked_at for frame in frames])
        yield frames, tensors


def _infer(
    prepared: Iterable[tuple[list[Frame], Float32]],
    classifier: Classifier,
    smoother: Smoother | None,
    times: Times,
) -> Iterator[_Results]:
    """Each batch with its predictions, by the current labels."""
    for frames, tensors in prepared:
        with times.of(len(frames)):
            classifier.refresh()
            head = classifier.head
            rows: Iterable[Float32] = head.probabilities(classifier.embed(tensors))
            if smoother is not None:
                names = head.classes.names
                rows = [smoother.smooth(frame, row, names) for frame, row in zip(frames, rows, strict=True)]
            predictions = [head.predict(row) for row in rows]
        yield list(zip(frames, predictions, strict=True))


def _deliver(
    stages: Sequence[Prefetch[Any]],
    source: Source,
    sinks: Sequence[Sink],
    options: InferConfig,
    stop: Stop,
    tally: Tally,
) -> bool:
    """Hand results to the sinks until the source ends, a limit is reached, or an end is asked for.

    Returns whether every frame of the source was taken.
    """
    results: Prefetch[_Results] = stages[-1]
    batches = iter(results)
    end = math.inf if options.duration is None else time.monotonic() + options.duration
    while stop.reason is None and (now := time.monotonic()) < end:
        arrived = results.wait(min(IDLE, end - now))
        tally.note(source)
        if not arrived:
            for sink in sinks:
                sink.idle()
            continue
        batch = next(batches, None)
        if batch is None:
            return options.max_frames is None or source.info.live
        for frame, prediction in batch:
            if source.cameras[frame.camera].info.live:  # a file is read ahead
                prediction = replace(prediction, latency=time.monotonic() - frame.captured)
            with tally.stages["write"].of(1):
                for sink in sinks:
                    sink.write(frame, prediction)
            tally.count(frame, prediction)
            if tally.frames == options.max_frames or stop.reason is not None:
                return False
    return False
