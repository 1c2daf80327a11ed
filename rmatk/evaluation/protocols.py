"""Protocols for few-shot methods: few-shot, base-to-new, cross-dataset, domain generalisation.

    few-shot        train and test on all classes
    base-to-new     train on the first half of the classes; test the halves, each among its own classes only
    cross-dataset   train on a source; test on targets, each among its own class names, without training
    domain          the same where the targets show the source's classes in another style

The rules are CoOp's and CoCoOp's (Zhou et al., 2022), which RMAdapter's paper follows: n classes have
ceil(n / 2) base classes; HM = 2 base new / (base + new). Here HM is taken per seed and then averaged. Every
seed draws its shots and trains again; means come with the sample standard deviation over seeds, and nothing
is chosen by its test accuracy.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from rmatk.backbones.backbone import Backbone
from rmatk.config import TrainConfig
from rmatk.data.formats import Splits, prompts
from rmatk.data.photos import Dataset
from rmatk.data.shots import few_shot
from rmatk.evaluation.features import FrozenFeatures
from rmatk.evaluation.methods import ABLATIONS, METHODS, Fitted, Task
from rmatk.training.fit import Step
from rmatk_runtime.errors import DataError
from rmatk_runtime.progress import OnProgress, no_progress

Protocol = Literal["few-shot", "base-to-new", "cross-dataset", "domain"]
Values = dict[str, float | None]
"""Accuracies in [0, 1] by column; None where a method has nothing to say about the classes."""


class SeedResult(msgspec.Struct, frozen=True):
    """What one seed gave."""

    seed: int
    values: Values


class MethodResult(msgspec.Struct, frozen=True):
    """One method: every seed, the mean over them, and the sample standard deviation (None for one seed)."""

    method: str
    terms: dict[str, float]
    """Weights of loss terms that differ from the configuration's."""
    per_seed: tuple[SeedResult, ...]
    mean: Values
    sd: Values


class TestSet(msgspec.Struct, frozen=True):
    """One column's photos."""

    column: str
    classes: int
    images: int


class ProtocolResult(msgspec.Struct, frozen=True):
    """A comparison of methods under one protocol, with all that is needed to repeat it."""

    protocol: Protocol
    data: str
    model: str
    pretrained: str | None
    backbone_digest: str
    config: TrainConfig
    """Every setting but the seed, which ``per_seed`` gives."""
    templates: tuple[str, ...]
    train_classes: int
    train_images: int
    """Of one seed."""
    tests: tuple[TestSet, ...]
    columns: tuple[str, ...]
    methods: tuple[MethodResult, ...]


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Base and new classes by CoOp's rule: the first ceil(n / 2) of the labels, and the rest.

    Raises:
        DataError: fewer than four classes, so that a half would have nothing to choose between.
    """
    count = len(dataset.class_names)
    if count < 4:
        raise DataError(f"base-to-new needs at least 4 classes, {dataset.root} has {count}")
    middle = math.ceil(count / 2)
    return dataset.select(range(middle)), dataset.select(range(middle, count))


def harmonic_mean(base: float | None, new: float | None) -> float | None:
    """2 base new / (base + new); 0 where both are, None where either is missing."""
    if base is None or new is None:
        return None
    return 2 * base * new / (base + new) if base + new else 0.0


def few_shot_accuracy(
    backbone: Backbone,
    data: Splits,
    config: TrainConfig,
    seeds: Sequence[int],
    methods: Sequence[str],
    on_progress: OnProgress = no_progress,
) -> ProtocolResult:
    """All classes for training and test: column ``accuracy``.

    Raises:
        DataError: photos that cannot be read, one class only.
    """
    return _compare(
        "few-shot",
        backbone,
        data.name,
        data.train,
        {"accuracy": data.test},
        config,
        seeds,
        methods,
        on_progress,
    )


def base_to_new(
    backbone: Backbone,
    data: Splits,
    config: TrainConfig,
    seeds: Sequence[int],
    methods: Sequence[str],
    on_progress: OnProgress = no_progress,
) -> ProtocolResult:
    """Train on the base classes only: columns ``base``, ``new`` and ``hm``.

    Raises:
        DataError: fewer than four classes, photos that cannot be read.
    """
    train, _ = halves(data.train)
    base, new = halves(data.test)

    def with_hm(values: Values) -> Values:
        return {**values, "hm": harmonic_mean(values["base"], values["new"])}

    tests = {"base": base, "new": new}
    return _compare(
        "base-to-new", backbone, data.name, train, tests, config, seeds, methods, on_progress, with_hm
    )


def cross_dataset(
    backbone: Backbone,
    source: Splits,
    targets: dict[str, Dataset],
    config: TrainConfig,
    seeds: Sequence[int],
    methods: Sequence[str],
    on_progress: OnProgress = no_progress,
    *,
    protocol: Literal["cross-dataset", "domain"] = "cross-dataset",
) -> ProtocolResult:
    """Train on all classes of a source: columns are the source, every target, and ``average`` over targets.

    ``targets`` are test parts by name. Prompts: see :func:`rmatk.data.formats.prompts`.

    Raises:
        DataError: no targets, one named as the source, photos that cannot be read; under ``domain`` a
            target with classes that the source does not have.
    """
    if not targets or source.name in targets:
        raise DataError(
            f"{protocol} needs targets besides the source {source.name!r}", "give them with --target"
        )
    if protocol == "domain":
        for target in targets.values():
            target.under(source.train.class_names)

    def with_average(values: Values) -> Values:
        over = [values[name] for name in targets]
        known = [value for value in over if value is not None]
        return {**values, "average": statistics.fmean(known) if len(known) == len(over) else None}

    tests = {source.name: source.test, **targets}
    return _compare(
        protocol,
        backbone,
        source.name,
        source.train,
        tests,
        config,
        seeds,
        methods,
        on_progress,
        with_average,
    )


class _Report:
    """The progress of a comparison: how many of ``total`` pairs of method and seed are measured."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress, self._total = on_progress, total
        self._done, self._now = 0, ""

    def begin(self, method: str, seed: int) -> None:
        self._now = f"{method}, seed {seed}"
        self._report("")

    def read(self, what: str, done: int, total: int) -> None:
        self._report(f", {what} {done} of {total}")

    def stepped(self, step: Step) -> None:
        self._report(f", epoch {step.epoch}, loss {step.terms['loss']:.3f}")

    def measured(self, values: Values) -> None:
        self._done += 1
        shown = (f", {name} {value:.3f}" for name, value in values.items() if value is not None)
        self._report("".join(shown))

    def _report(self, end: str) -> None:
        self._on_progress(self._now + end, self._done, self._total)


def _compare(
    protocol: Protocol,
    backbone: Backbone,
    name: str,
    train: Dataset,
    tests: dict[str, Dataset],
    config: TrainConfig,
    seeds: Sequence[int],
    methods: Sequence[str],
    on_progress: OnProgress,
    derive: Callable[[Values], Values] = lambda values: values,
) -> ProtocolResult:
    """Fit every method to every seed's shots and measure it on every test set."""
    if config.augment:
        raise DataError("protocols train without augmentation, as the paper does", "leave --augment out")
    templates = prompts(train, config)
    report = _Report(on_progress, len(methods) * len(seeds))
    features = FrozenFeatures(backbone, config, on_progress=report.read)
    results = []
    for method in methods:
        per_seed = []
        for seed in seeds:
            report.begin(method, seed)
            shots = few_shot(train, config.shots, seed).train
            settings = msgspec.structs.replace(config, seed=seed)
            fitted = METHODS[method](Task(features, shots, templates, settings, report.stepped))
            values = derive(
                {c: _accuracy(fitted, features, test, prompts(test, config)) for c, test in tests.items()}
            )
            report.measured(values)
            per_seed.append(SeedResult(seed, values))
        results.append(_summary(method, per_seed))
    return ProtocolResult(
        protocol=protocol,
        data=name,
        model=backbone.name,
        pretrained=backbone.pretrained,
        backbone_digest=backbone.digest,
        config=config,
        templates=templates,
        train_classes=len(train.class_names),
        train_images=len(few_shot(train, config.shots, seeds[0]).train.flat()[0]),
        tests=tuple(TestSet(c, len(t.class_names), len(t.flat()[0])) for c, t in tests.items()),
        columns=tuple(derive(dict.fromkeys(tests, 0.0))),
        methods=tuple(results),
    )


def _accuracy(
    fitted: Fitted, features: FrozenFeatures, test: Dataset, templates: tuple[str, ...]
) -> float | None:
    """Top-1 accuracy in [0, 1] among the test set's own classes, or None where the method knows none."""
    classify = fitted(test.class_names, templates)
    if classify is None:
        return None
    hits = sum(
        int(classify(images).argmax(dim=-1).eq(images.labels).sum()) for images in features.batches(test)
    )
    return hits / len(test.flat()[0])


def _summary(method: str, per_seed: Sequence[SeedResult]) -> MethodResult:
    """Mean and sample standard deviation of every column over the seeds."""
    mean: Values = {}
    sd: Values = {}
    for column in per_seed[0].values:
        values = [value for result in per_seed if (value := result.values[column]) is not None]
        mean[column] = statistics.fmean(values) if values else None
        sd[column] = statistics.stdev(values) if len(values) > 1 else None
    return MethodResult(method, ABLATIONS.get(method, {}), tuple(per_seed), mean, sd)
