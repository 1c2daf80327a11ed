"""What ``rmatk parity`` checks on: the bundle's golden set, or photos with the trained model beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto
    from PIL.Image import Image

    from rmatk_export.parity.bisect import Bisection
    from rmatk_runtime.arrays import UInt8
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.golden_check import Candidate
    from rmatk_runtime.parity.compare import StageResult


@dataclass(frozen=True)
class Checked:
    """What parity found, on which basis, each picture by its name, and the float32 graph of a run, if any."""

    stages: Sequence[StageResult]
    basis: str
    picture: Callable[[str], Image | UInt8]
    reference: Callable[[], ModelProto | None]


def check_carried(bundle: Bundle, engines: Sequence[Candidate]) -> Checked:
    """Check from the golden set that the bundle carries."""
    from rmatk_runtime.golden_check import check_golden, golden_of

    golden = golden_of(bundle)
    pictures = dict(zip(golden.names, golden.images, strict=True))
    stages = check_golden(bundle, engines, golden=golden)
    kind, end = "training photos", ""
    if golden.source == "rendered":
        kind, end = "rendered pictures", "; they have no true label, so nothing is said of accuracy"
    basis = f"against what PyTorch gave at export, on the {len(pictures)} {kind} that the bundle carries{end}"
    return Checked(stages, basis, pictures.__getitem__, lambda: None)


def check_photos(
    bundle: Bundle, engines: Sequence[Candidate], run: Path, data: Path, *, quiet: bool
) -> Checked:
    """Check against the run, in PyTorch, on the photos in ``data``."""
    from rmatk.backbones.backbone import load_backbone
    from rmatk.cli.console import print_notes, progress_bar
    from rmatk.data.formats import open_dataset
    from rmatk.parity.against_run import check_against_run, reference_graph
    from rmatk.run import load_run
    from rmatk_runtime.pictures.preprocess import load_image

    loaded = load_run(run)
    config = loaded.record.config
    photos = open_dataset(data, "test")
    print_notes(photos)
    backbone = load_backbone(config.model, config.pretrained)
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("photos", total=len(photos.flat()[0]), note="")
        stages = check_against_run(
            bundle,
            engines,
            loaded,
            backbone,
            photos,
            on_images=lambda count: progress.advance(task, count),
        )
    basis = f"against {run} in PyTorch, both branches present, on the photos in {data}"
    known = bundle.classes().names
    if strange := [name for name in photos.class_names if name not in known]:
        basis += f"; not labels of the bundle, so nothing is said of accuracy: {', '.join(strange)}"
    return Checked(
        stages, basis, lambda name: load_image(photos.root / name), lambda: reference_graph(loaded, backbone)
    )


def bisect_checked(
    bundle: Bundle, engines: Sequence[Candidate], checked: Checked, *, quiet: bool
) -> list[Bisection]:
    """Bisect what failed, or all graphs where nothing did.

    Raises:
        BundleError: neither a run nor a float32 graph in the bundle to hold the others against.
    """
    from rmatk.cli.console import progress_bar
    from rmatk_export.parity.bisect import bisect_stages
    from rmatk_runtime.pictures.preprocess import preprocess

    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("nodes", total=None, note="")
        return bisect_stages(
            bundle,
            engines,
            checked.stages,
            lambda name: preprocess(checked.picture(name), bundle.manifest.preprocess),
            reference=checked.reference(),
            on_node=lambda stage, done, total: progress.update(task, completed=done, total=total, note=stage),
        )
