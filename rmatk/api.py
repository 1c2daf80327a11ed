"""The library: what the command line does, as functions. ``import rmatk`` gives all of it.

Nothing is printed; long work reports through :data:`~rmatk_runtime.progress.OnProgress`. Torch is loaded by
the functions that need it: training, evaluation, exporting a run, and parity against a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from rmatk.config import Execution, ExportConfig, TrainConfig
from rmatk.notes import note
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.doctor.packages import missing_extra
from rmatk_runtime.errors import ConfigError
from rmatk_runtime.parity.compare import Judge
from rmatk_runtime.parity.reference import GoldenReference
from rmatk_runtime.parity.stage import Bisection
from rmatk_runtime.parity.walk import FastResize, ParityReport, check
from rmatk_runtime.pictures.preprocess import preprocess
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.selection import open_candidates

if TYPE_CHECKING:
    from rmatk.evaluation.accuracy import EvalReport
    from rmatk.run import Run
    from rmatk.training.fit import OnStep
    from rmatk_export.bundle_writer import ExportReport

_GOLDEN, _PHOTOS = 8, 32  # images at once
_log = logging.getLogger(__name__)


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _naming_extras(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """A package that is not installed becomes a MissingExtraError with the command that installs it."""

    @wraps(function)
    def named(*args: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        try:
            return function(*args, **options)
        except ModuleNotFoundError as error:
            if (missing := missing_extra(error)) is None:
                raise
            raise missing from error

    return named


@_naming_extras
def train(
    data: Path | str,
    out: Path | str,
    config: TrainConfig | None = None,
    *,
    class_names: Path | str | None = None,
    execution: Execution | None = None,
    device: str = "auto",
    on_progress: OnProgress = no_progress,
    on_step: OnStep | None = None,
) -> Run:
    """Fit adapters to a few photos per class and write the run folder ``out``, whole or not at all.

    >>> run = rmatk.train("photos", "run", rmatk.TrainConfig(model="rmatk-micro", epochs=10))
    >>> run.record.class_names
    ('blue dot', 'green check', 'red stripe')

    An interrupted training continues when this is called again with the same arguments.

    Args:
        data: photos, one subfolder per class; or a .csv, or a split .json.
        out: the run folder.
        config: what to train; the defaults suit a first try.
        class_names: a file of names for classes whose folders are codes: lines of code,name, or JSON.
        execution: how to carry it out, without influence on the result.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...; ``auto``: a GPU where torch has one.
        on_progress: called with the photos read and then with the steps done.
        on_step: called with the losses of every step.

    Raises:
        DataError: photos that cannot be used.
        BackboneError: an unknown model; a precision or device that is not available here.
        RunError: a loss that is not a number; a checkpoint left by other arguments.
        StorageError: ``out`` holds something else; disk full.
        MissingExtraError: torch is not installed.
    """
    from rmatk.backbones.choice import chosen_device, device_note, load_chosen
    from rmatk.data.class_names import read_class_names
    from rmatk.training import distributed
    from rmatk.training.fit import no_report
    from rmatk.training.train import train as train_run

    config = config or TrainConfig()
    names = None if class_names is None else read_class_names(Path(class_names))
    with distributed.group(chosen_device(device)) as own:
        backbone, notes = load_chosen(config.model, config.pretrained, own)
        if distributed.is_main():
            _log.info(device_note(backbone.device))
            note(notes)
        return train_run(
            config,
            backbone,
            Path(data),
            Path(out),
            on_step or no_report,
            execution,
            on_progress=on_progress,
            class_map=names,
            notes=notes,
        )


@_naming_extras
def evaluate(
    run: Path | str,
    data: Path | str,
    *,
    class_names: Path | str | None = None,
    batch: int = 64,
    max_bad: float = 0.0,
    device: str = "auto",
    on_progress: OnProgress = no_progress,
) -> EvalReport:
    """Measure a run's accuracy on photos that it was not trained on.

    >>> report = rmatk.evaluate("run", "photos")
    >>> report.images
    24

    Args:
        run: the run folder.
        data: labelled photos; of a data set in parts, the test part is used.
        class_names: as for :func:`train`; None: those of the run.
        batch: photos at once.
        max_bad: share of the photos that may be unreadable; the report lists them.
        device: as for :func:`train`.
        on_progress: called with the photos done.

    Raises:
        RunError: not a run, or it does not fit its backbone.
        DataError: unknown classes, too many unreadable photos.
        MissingExtraError: torch is not installed.
    """
    from rmatk.backbones.backbone import load_backbone
    from rmatk.backbones.choice import chosen_device, device_note
    from rmatk.data.class_names import read_class_names
    from rmatk.data.formats import open_dataset
    from rmatk.evaluation.accuracy import evaluate as evaluate_run
    from rmatk.run import load_run, restore

    record = (loaded := load_run(Path(run))).record
    names = record.class_map if class_names is None else read_class_names(Path(class_names))
    photos = open_dataset(Path(data), "test", names)
    note(photos.notes)
    backbone = load_backbone(record.config.model, record.config.pretrained, chosen_device(device))
    _log.info(device_note(backbone.device))
    return evaluate_run(
        restore(loaded, backbone),
        record.class_names,
        record.config.templates,
        photos,
        batch=batch,
        max_bad=max_bad,
        training=record.fingerprints,
        on_progress=on_progress,
    )


@_naming_extras
def export(
    run: Path | str,
    out: Path | str,
    config: ExportConfig | None = None,
    *,
    data: Path | str | None = None,
    on_progress: OnProgress = no_progress,
) -> ExportReport:
    """Write a run as a bundle, checked against PyTorch; what fails leaves nothing behind.

    >>> report = rmatk.export("run", "bundle", rmatk.ExportConfig(golden=8))
    >>> all(report.stages)
    True

    Args:
        run: the run folder.
        out: the bundle folder.
        config: precisions, golden set, graphs on pixels.
        data: the training photos' new location, if they were moved.
        on_progress: called during the search for int8, which takes minutes for large towers.

    Raises:
        DataError: the training photos are needed, and are not there any more.
        ExportError: a graph that cannot be right; int8 that costs too much accuracy.
        ParityError: a graph that does not give what PyTorch gave.
        StorageError: ``out`` holds something else; disk full.
        MissingExtraError: torch or onnx is not installed.
    """
    from rmatk.backbones.backbone import load_backbone
    from rmatk.deployment.from_run import export_source
    from rmatk.deployment.golden_pictures import GOLDEN_IMAGES
    from rmatk.run import load_run
    from rmatk_export.bundle_writer import write_bundle

    loaded, config = load_run(Path(run)), config or ExportConfig()
    trained = loaded.record.config
    source = export_source(
        loaded,
        load_backbone(trained.model, trained.pretrained),
        data=None if data is None else Path(data),
        golden=config.golden or GOLDEN_IMAGES,
        ship=config.golden is not None,
        precisions=config.precisions,
        pixels=config.pixels,
    )
    return write_bundle(source, Path(out), on_progress)


@_naming_extras
def check_parity(
    bundle: Path | str,
    data: Path | str | None = None,
    *,
    against: Path | str | None = None,
    backend: str = "auto",
    bisect: bool = False,
    trust: Path | str | None = None,
    on_progress: OnProgress = no_progress,
) -> ParityReport:
    """Check every stage of a bundle against PyTorch.

    >>> report = rmatk.check_parity("bundle")
    >>> bool(report), report.stages[0].stage
    (True, 'preprocessing')

    Without ``data`` and ``against`` the golden set inside the bundle is used, and torch is not needed.

    Args:
        bundle: the bundle's folder.
        data: labelled photos to check on.
        against: the run that the bundle was exported from, which gives the reference in PyTorch.
        backend: which engines to check; see :func:`~rmatk_runtime.selection.open_candidates`.
        bisect: find the first node that diverges in every graph that failed, or in all if none did.
        trust: a public key, or a folder of them, one of which must have signed the bundle.
        on_progress: called with the photos done, then with the nodes of each graph.

    Raises:
        ConfigError: only one of ``data`` and ``against`` was given.
        TrustError: no trusted key has signed it, or it is older than one that ran here.
        BundleError: not a sound bundle, or no golden set in it; for ``bisect`` no reference graph.
        BackendError: an engine cannot run here.
        RunError: the bundle was exported from another run.
        DataError: photos that cannot be read.
    """
    if (data is None) != (against is None):
        missing = "against" if against is None else "data"
        raise ConfigError([(missing, "is missing: data and against go together")])
    opened = Bundle.open(Path(bundle), None if trust is None else Path(trust))
    with open_candidates(opened, backend) as candidates:
        trained = None
        if data is not None and against is not None:
            from rmatk.parity.run_reference import RunReference

            trained = RunReference.open(opened, Path(against), Path(data))
        reference = trained or GoldenReference.of(opened)
        stages = check(
            reference,
            candidates
            if trained is None
            else [trained.folded(), *candidates, *FastResize.of(candidates, opened)],
            Judge.of(opened),
            batch=_GOLDEN if trained is None else _PHOTOS,
            on_progress=on_progress,
        )
        found: list[Bisection] = []
        if bisect:
            from rmatk_export.parity.bisect import bisect_stages

            spec = opened.manifest.preprocess
            found = bisect_stages(
                opened,
                candidates,
                stages,
                lambda name: preprocess(reference.picture(name), spec),
                reference=None if trained is None else trained.graph(),
                on_progress=on_progress,
            )
    return ParityReport(opened, tuple(stages), reference.basis, reference.picture, tuple(found))
