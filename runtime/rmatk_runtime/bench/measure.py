"""Measures latency, throughput, memory, size and accuracy of a bundle's formats and batch sizes.

Each format is loaded, warmed up, measured and released before the next, so that memory is its own. Stages are
timed apart, over the very calls of a running classifier; a total is the sum of one round's stages, not of
percentiles. ``rf-detr #170`` shows what becomes of figures that are not of what users run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product, repeat
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.backend import Backend
from rmatk_runtime.bench.machine import Machine, forget_peak, read_machine, resident_memory
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.errors import BackendError, DataError, MissingExtraError, SourceError
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.selection import open_backend
from rmatk_runtime.sources import open_source

Milliseconds = npt.NDArray[np.float64]
STAGES = ("decode", "preprocess", "copy", "infer", "post")
_NOISE = (480, 640, 3)  # where a bundle has no golden pictures and none were given


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds per batch."""

    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, milliseconds: Milliseconds) -> Spread:
        """The spread of one or more measurements."""
        p50, p90, p99 = (round(float(q), 4) for q in np.percentile(milliseconds, (50, 90, 99)))
        return cls(mean=round(float(milliseconds.mean()), 4), p50=p50, p90=p90, p99=p99)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One format at one batch size.

    ``engine``: what really ran. ``size``: of the file that runs, bytes. ``load``: milliseconds until it was
    ready. ``stages``: those of :data:`STAGES` there are: no ``decode`` where pictures lay in memory, ``copy``
    where the engine tells it apart from ``infer``. ``rate``: pictures per second through all stages, one
    after the other; ``engine_rate``: through ``copy`` and ``infer`` alone. ``peak``, ``after``: resident
    memory of this process in bytes, at most while it ran and at the end; None where the system does not tell.
    ``accuracy``: share of the photos answered rightly.
    """

    engine: str
    precision: str
    size: int
    load: float
    batch: int
    repeats: int
    total: Spread
    stages: Mapping[str, Spread]
    rate: float
    engine_rate: float
    peak: int | None
    after: int | None
    accuracy: float | None = None


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A format that does not run here, and why."""

    backend: str
    precision: str
    reason: str


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured. ``pictures``: on what; ``photos``: how many accuracies are over."""

    machine: Machine
    pictures: str
    photos: int
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]


class BenchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured. ``repeats``: rounds of one batch per row, after ``warmup`` that do not count.

    ``threads``: of an engine on the CPU, 0: one per core that this process may use.
    """

    backends: tuple[str, ...] = ("auto",)
    precisions: tuple[str, ...]
    batches: tuple[int, ...] = (1,)
    repeats: int = 100
    warmup: int = 10
    threads: int = 0


@dataclass(frozen=True)
class BenchPictures:
    """Pictures without end: of ``source``, else ``photos`` (file, class name), else of the golden set.

    What is a file is decoded when it is asked for; the golden pictures, or noise where a bundle has none, lie
    in memory.
    """

    bundle: Bundle
    source: str | None = None
    photos: Sequence[tuple[Path, str]] = ()

    @property
    def decodes(self) -> bool:
        """Whether asking for a picture is work."""
        return self.source is not None or bool(self.photos)

    @property
    def title(self) -> str:
        """What they are, for a table's heading."""
        if self.decodes:
            return self.source or f"{len(self.photos)} photos"
        golden = self.bundle.manifest.golden
        kind = f"noise, {_NOISE[1]}x{_NOISE[0]}" if golden is None else f"{golden.images} golden pictures"
        return f"{kind}, from memory"

    def __iter__(self) -> Iterator[Image.Image | UInt8]:
        """Yield them; raises SourceError, DataError."""
        if self.source is not None:
            yield from self._frames(self.source)
        elif self.photos:
            yield from (load_image(path) for path, _ in cycle(self.photos))
        elif (golden := self.bundle.golden()) is not None:
            yield from cycle(golden.images)
        else:
            yield from repeat(np.random.default_rng(0).integers(0, 256, _NOISE, dtype=np.uint8))

    def _frames(self, source: str) -> Iterator[UInt8]:
        while True:
            with open_source(source) as opened:
                if opened.info.live:
                    raise SourceError(
                        f"{opened.info.name} sets its own pace", "measure on a file: --source video.mp4"
                    )
                yield from (frame.image for frame in opened)


def bench(
    bundle: Bundle,
    plan: BenchPlan,
    material: BenchPictures,
    on_progress: OnProgress = no_progress,
) -> Bench:
    """Measure a bundle on this machine; ``on_progress`` is called with what is measured next.

    Raises:
        DataError: a photo's class is not a label of the bundle.
        SourceError: the source cannot be read, or is live.
        BackendError: no format runs here.
    """
    names = bundle.classes().names
    if unknown := sorted({label for _, label in material.photos} - set(names)):
        raise DataError(
            f"photos of classes that the bundle does not know: {', '.join(unknown)}",
            f"its labels are {', '.join(names)}; rmatk labels changes them",
        )
    machine = read_machine()
    rows: list[Row] = []
    skipped: list[Skipped] = []
    total = len(plan.backends) * len(plan.precisions) * len(plan.batches)

    def begin(what: str) -> None:
        on_progress(what, len(rows), total)

    for backend, precision in product(plan.backends, plan.precisions):
        began = time.perf_counter()
        try:
            engine = open_backend(
                bundle, backend, precision=precision, batch=max(plan.batches), threads=plan.threads
            )
        except (BackendError, MissingExtraError) as error:
            skipped.append(Skipped(backend=backend, precision=precision, reason=error.message))
            continue
        load = round(1e3 * (time.perf_counter() - began), 3)
        with engine:
            for row in _rows(bundle, _Format(engine, precision, load), plan, material, begin):
                rows.append(row)
    if not rows:
        raise BackendError(f"no format runs here: {skipped[0].reason}", "rmatk doctor")
    return Bench(
        machine=machine,
        pictures=material.title,
        photos=len(material.photos),
        rows=tuple(rows),
        skipped=tuple(skipped),
    )


@dataclass(frozen=True)
class _Format:
    """A loaded engine; ``load``: milliseconds that it took."""

    engine: Backend
    precision: str
    load: float


def _rows(
    bundle: Bundle, of: _Format, plan: BenchPlan, material: BenchPictures, begin: Callable[[str], None]
) -> Iterator[Row]:
    """One row per batch size; accuracy, the same for all, is measured once."""
    head = LabelHead(bundle.classes(), bundle.manifest.decision, threshold=0.0)
    classifier = Classifier(of.engine, bundle.manifest.preprocess, head)
    accuracy = _accuracy(classifier, material.photos, max(plan.batches)) if material.photos else None
    for batch in plan.batches:
        begin(f"{of.engine.name} {of.precision}, batch {batch}")
        forget_peak()
        stages = measure(classifier, iter(material), batch, plan)
        memory = resident_memory()
        if not material.decodes:
            del stages["decode"]
        total = np.sum(list(stages.values()), axis=0)
        yield Row(
            engine=of.engine.name,
            precision=of.precision,
            size=of.engine.size,
            load=of.load,
            batch=batch,
            repeats=plan.repeats,
            total=Spread.of(total),
            stages={name: Spread.of(values) for name, values in stages.items()},
            rate=_rate(batch, total),
            engine_rate=_rate(batch, stages["infer"] + stages.get("copy", 0.0)),
            peak=memory and memory[0],
            after=memory and memory[1],
            accuracy=accuracy,
        )


def measure(
    classifier: Classifier, pictures: Iterator[Image.Image | UInt8], batch: int, plan: BenchPlan
) -> dict[str, Milliseconds]:
    """Milliseconds (``plan.repeats``,) of each stage, after the warm-up; ``copy`` where the engine tells."""
    engine, head = classifier.backend, classifier.head
    rounds: list[tuple[float, ...]] = []
    for _ in range(plan.warmup + plan.repeats):
        marks = [time.perf_counter()]
        images = list(islice(pictures, batch))
        marks.append(time.perf_counter())
        tensors = classifier.prepare(images)
        marks.append(time.perf_counter())
        embeddings = engine.embed(tensors)
        marks.append(time.perf_counter())
        for row in head.probabilities(embeddings):
            head.predict(row)
        marks.append(time.perf_counter())
        decode, preprocess, infer, post = (1e3 * float(step) for step in np.diff(marks))
        copy = 0.0 if engine.times is None else engine.times.upload + engine.times.download
        rounds.append((decode, preprocess, copy, infer - copy, post))
    stages = dict(zip(STAGES, np.array(rounds[plan.warmup :]).T, strict=True))
    if engine.times is None:
        del stages["copy"]
    return stages


def _accuracy(classifier: Classifier, photos: Sequence[tuple[Path, str]], batch: int) -> float:
    right = 0
    for start in range(0, len(photos), batch):
        part = photos[start : start + batch]
        predictions = classifier.classify(
            [load_image(path, Decoding(classifier.spec.stretch)) for path, _ in part]
        )
        right += sum(p.label == label for p, (_, label) in zip(predictions, part, strict=True))
    return right / len(photos)


def _rate(batch: int, milliseconds: Milliseconds) -> float:
    return round(1e3 * batch / float(milliseconds.mean()), 3)
