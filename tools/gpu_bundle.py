"""A bundle for tools/gpu_check.py where none is given: trained for a moment, exported in what holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.errors import RmatkError
from tools.gpu_report import Missing

CLASSES = 4
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def make_bundle(work: Path, model: str, *, random_weights: bool) -> tuple[Path, Path, list[Missing]]:
    """Train for a moment on rendered photos and export -> bundle, run, and precisions that did not hold."""
    from rmatk.backbones.backbone import load_backbone
    from rmatk.config import TrainConfig
    from rmatk.deployment.from_run import export_source
    from rmatk.scenes.photos import rendered_kinds, write_photos
    from rmatk.training.train import train
    from rmatk_export.bundle_writer import write_bundle

    photos = write_photos(work / "photos", kinds=rendered_kinds()[:CLASSES], train=12, test=1) / "train"
    pretrained = write_random_weights(work, model) if random_weights else None
    backbone = load_backbone(model, pretrained)
    config = TrainConfig(model=model, pretrained=pretrained, shots=8, epochs=2)
    run = train(config, backbone, photos, work / "run")
    missing = export_what_holds(
        lambda precisions: write_bundle(export_source(run, backbone, precisions=precisions), work / "bundle")
    )
    return work / "bundle", work / "run", missing


def export_what_holds(export: Callable[[tuple[Precision, ...]], Any]) -> list[Missing]:
    """Export in every precision, or without the lowest where it fails, as it may on untrained weights."""
    missing = []
    for count in range(len(PRECISIONS), 0, -1):
        try:
            export(PRECISIONS[:count])
        except RmatkError as error:
            if count == 1:
                raise
            missing.append(Missing(what=f"export {PRECISIONS[count - 1]}", reason=error.message))
        else:
            break
    return missing


def write_random_weights(work: Path, model: str) -> str:
    """Weights as they are before any training: as fast as trained ones, and there without a network."""
    from rmatk.backbones.torchvision_ops import import_torchvision

    import_torchvision()
    import open_clip
    from safetensors.torch import save_file

    path = work / "random.safetensors"
    save_file(open_clip.create_model(model, pretrained=None).state_dict(), path)
    return str(path)
