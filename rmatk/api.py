"""The library: what the command line does, as functions. ``import rmatk`` gives all of it.

Nothing is printed; long work reports through :data:`~rmatk_runtime.progress.OnProgress`. Torch is loaded by
the functions that need it: training, evaluation, exporting a run, and parity against a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.parity.compare import Judge
from rmatk_runtime.parity.reference import golden_of
from rmatk_runtime.parity.stage import Bisection, StageKind, StageResult, first_failure, require_passed
from rmatk_runtime.parity.walk import EncoderCandidate, check, check_golden
from rmatk_runtime.pictures.preprocess import preprocess
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.selection import open_candidates

if TYPE_CHECKING:
    from onnx import ModelProto
    from PIL.Image import Image

    from rmatk.data.photos import Dataset
    from rmatk_runtime.arrays import UInt8

_PHOTOS = 32  # at once
_notes = logging.getLogger("rmatk.notes")


@dataclass(frozen=True)
class ParityReport:
    """What :func:`check_parity` found; truthy if every stage passed.

    ``bundle``: what was checked; ``stages`` in the data's order; ``basis``: what they were compared with, in
    words; ``picture``: an image by its name in the stages; ``bisections``: per graph the first node that
    diverges, if asked for.
    """

    bundle: Bundle
    stages: tuple[StageResult, ...]
    basis: str
    picture: Callable[[str], Image | UInt8]
    bisections: tuple[Bisection, ...] = ()

    def __bool__(self) -> bool:
        return self.failed is None

    @property
    def failed(self) -> StageResult | None:
        """The first stage that failed."""
        return first_failure(self.stages)

    def require_passed(self) -> ParityReport:
        """This report, or ParityError if a stage failed."""
        require_passed(self.stages, self._explain)
        return self

    def _explain(self, failed: StageResult) -> tuple[str, str]:
        hint = "rmatk doctor shows the versions in use"
        if failed.kind is StageKind.PREPROCESSING:
            hint = f"later stages were skipped; export again, or use the Pillow version of the export; {hint}"
        elif failed.kind is StageKind.GRAPH and not self.bisections:
            hint = f"find the node where the graph diverges: --bisect; {hint}"
        return f"parity fails at the stage '{failed.stage}': {failed.reason}", hint


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
        ValueError: only one of ``data`` and ``against`` was given.
        TrustError: no trusted key has signed it, or it is older than one that ran here.
        BundleError: not a sound bundle, or no golden set in it; for ``bisect`` no reference graph.
        BackendError: an engine cannot run here.
        RunError: the bundle was exported from another run.
        DataError: photos that cannot be read.
    """
    opened = Bundle.open(Path(bundle), None if trust is None else Path(trust))
    with open_candidates(opened, backend) as candidates:
        if data is None and against is None:
            report, graph = _against_golden(opened, candidates, on_progress), _no_graph
        elif data is not None and against is not None:
            report, graph = _against_run(opened, candidates, Path(against), Path(data), on_progress)
        else:
            raise ValueError("data and against go together; without both, the golden set is used")
        if not bisect:
            return report
        from rmatk_export.parity.bisect import bisect_stages

        spec = opened.manifest.preprocess
        found = bisect_stages(
            opened,
            candidates,
            report.stages,
            lambda name: preprocess(report.picture(name), spec),
            reference=graph(),
            on_progress=on_progress,
        )
    return replace(report, bisections=tuple(found))


def _open_test_photos(data: Path) -> Dataset:
    """The photos to test on; what is beside them and not read is logged."""
    from rmatk.data.formats import open_dataset

    photos = open_dataset(data, "test")
    for note in photos.notes:
        _notes.warning("%s", note)
    return photos


def _no_graph() -> ModelProto | None:
    """The bundle's own float32 graph is the reference for bisection."""
    return None


def _against_golden(
    bundle: Bundle, candidates: Sequence[EncoderCandidate], on_progress: OnProgress
) -> ParityReport:
    golden = golden_of(bundle)
    stages = check_golden(bundle, candidates, on_progress=on_progress)
    kind, end = "training photos", "; it was trained on them, so accuracy on them is not that on new ones"
    if golden.source == "rendered":
        kind, end = "rendered pictures", "; they have no true label, so nothing is said of accuracy"
    count = len(golden.names)
    basis = f"against what PyTorch gave at export, on the {count} {kind} that the bundle carries{end}"
    pictures = dict(zip(golden.names, golden.images, strict=True))
    return ParityReport(bundle, tuple(stages), basis, pictures.__getitem__)


def _against_run(
    bundle: Bundle,
    candidates: Sequence[EncoderCandidate],
    run: Path,
    data: Path,
    on_progress: OnProgress,
) -> tuple[ParityReport, Callable[[], ModelProto]]:
    from rmatk.backbones.backbone import load_backbone
    from rmatk.data.duplicates import trained_on
    from rmatk.parity.run_reference import RunReference
    from rmatk.run import load_run

    loaded, photos = load_run(run), _open_test_photos(data)
    config = loaded.record.config
    backbone = load_backbone(config.model, config.pretrained)
    reference = RunReference(bundle, loaded, backbone, photos)
    judge = Judge.of(bundle)
    stages = check(
        reference, [reference.folded(), *candidates], judge, batch=_PHOTOS, on_progress=on_progress
    )
    basis = f"against {run} in PyTorch, both branches present, on the photos in {data}"
    if seen := trained_on(photos.flat()[0], loaded.record.fingerprints):
        basis += f", of which {seen} were trained or validated on"
    if strange := [name for name in photos.class_names if name not in judge.classes.names]:
        basis += f"; not labels of the bundle, so nothing is said of accuracy: {', '.join(strange)}"
    return ParityReport(bundle, tuple(stages), basis, reference.picture), reference.graph
