"""The run folder: ``adapter.safetensors``, ``run.json``, ``metrics.jsonl``, ``report.html``.

No pickle. It is written as a whole or not at all, and refused when a byte has changed or the backbone is
another one.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from rmatk.backbones.backbone import Backbone
from rmatk.calibration import Calibration
from rmatk.config import TrainConfig
from rmatk.data.duplicates import Fingerprints
from rmatk.data.shots import FewShot
from rmatk.method.model import AdaptedClip
from rmatk_runtime.bundle.manifest import MANIFEST
from rmatk_runtime.errors import RunError, naming_storage_errors
from rmatk_runtime.files import path_text, replacing_folder, sha256_file
from rmatk_runtime.formats import Format
from rmatk_runtime.intervals import wilson
from rmatk_runtime.pictures.preprocess import PreprocessSpec

log = logging.getLogger(__name__)

ADAPTER = "adapter.safetensors"
RECORD = "run.json"
METRICS = "metrics.jsonl"
_AGAIN = "train again with rmatk train"


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Top-1 accuracies in [0, 1] at the end of training; None without validation photos."""

    train_accuracy: float
    train_zero_shot_accuracy: float
    validation_accuracy: float | None
    validation_zero_shot_accuracy: float | None


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``run.json``: everything needed to restore the model and to know where it came from."""

    format: Literal["rmatk-run"] = "rmatk-run"
    version: Literal[1] = 1
    minor: int = 0
    config: TrainConfig
    """Every setting, with the numbers of adapted blocks resolved."""
    backbone_digest: str
    class_names: tuple[str, ...]
    preprocess: PreprocessSpec
    logit_scale: float
    """exp(t): multiplies cosines."""
    data: str
    """The folder of photos, as an absolute path."""
    train_files: tuple[str, ...]
    """Relative to ``data``."""
    train_labels: tuple[int, ...]
    """The class of each of them."""
    validation_files: tuple[str, ...]
    validation_labels: tuple[int, ...]
    notes: tuple[str, ...]
    metrics: Metrics
    calibration: Calibration = Calibration()
    """Fitted to the validation shots; carried into the bundle."""
    versions: dict[str, str]
    adapter_sha256: str
    class_map: dict[str, str] = {}
    """Names that folders or labels were given by ``--class-names``, by code."""
    fingerprints: Fingerprints = Fingerprints()
    """Digests of the training photos, then of the validation photos."""


_RECORD = Format(
    RunRecord,
    added=dict.fromkeys(
        ("class_map", "fingerprints", "preprocess.passes", "preprocess.stretch", "config.stretch"), 1
    ),
    decisive=("config", "preprocess", "logit_scale", "calibration"),
)


class Accuracies(msgspec.Struct, frozen=True):
    """Accuracies on photos of one kind, with 95 % intervals (Wilson)."""

    photos: str
    """Which photos: they are to be named beside every accuracy."""
    images: int
    zero_shot: float
    zero_shot_interval: tuple[float, float]
    adapted: float
    adapted_interval: tuple[float, float]


def accuracies(record: RunRecord) -> tuple[Accuracies, ...]:
    """What a run knows of itself: on validation photos, if it had any, and on those it was trained on."""
    metrics = record.metrics
    kinds = (
        (
            "validation photos, not trained on",
            len(record.validation_files),
            metrics.validation_zero_shot_accuracy,
            metrics.validation_accuracy,
        ),
        (
            "training photos, which it has seen",
            len(record.train_files),
            metrics.train_zero_shot_accuracy,
            metrics.train_accuracy,
        ),
    )
    return tuple(
        Accuracies(photos, images, zero_shot, wilson(zero_shot, images), adapted, wilson(adapted, images))
        for photos, images, zero_shot, adapted in kinds
        if images and zero_shot is not None and adapted is not None
    )


@dataclass(frozen=True)
class Run:
    """A verified run folder; ``adapter`` holds the weights by name, as :meth:`AdaptedClip.adapter_state`."""

    path: Path
    record: RunRecord
    adapter: dict[str, npt.NDArray[np.float32]]


@contextmanager
def run_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends well, and vanishes when it does not.

    Raises:
        StorageError: ``path`` holds something other than a run, disk full, no permission.
    """
    with replacing_folder(path, marker=RECORD) as partial:
        yield partial


def write_run(
    folder: Path,
    config: TrainConfig,
    model: AdaptedClip,
    shots: FewShot,
    metrics: Metrics,
    calibration: Calibration,
    class_map: Mapping[str, str] | None = None,
    fingerprints: Fingerprints | None = None,
) -> RunRecord:
    """Write ``adapter.safetensors`` and then ``run.json`` into ``folder``; returns what the latter holds.

    Raises:
        StorageError: disk full, no permission.
    """
    backbone = model.backbone
    with naming_storage_errors(folder):
        (folder / ADAPTER).write_bytes(safetensors.save(model.adapter_state()))
        record = RunRecord(
            config=config,
            backbone_digest=backbone.digest,
            class_names=shots.train.class_names,
            preprocess=backbone.preprocess,
            logit_scale=model.logit_scale,
            data=path_text(shots.train.root.resolve()),
            train_files=tuple(shots.train.relative()),
            train_labels=tuple(shots.train.flat()[1]),
            validation_files=tuple(shots.validation.relative()),
            validation_labels=tuple(shots.validation.flat()[1]),
            notes=shots.notes if calibration.note is None else (*shots.notes, calibration.note),
            metrics=metrics,
            calibration=calibration,
            versions=_versions(),
            adapter_sha256=sha256_file(folder / ADAPTER),
            class_map=dict(class_map or {}),
            fingerprints=fingerprints or Fingerprints(),
        )
        (folder / RECORD).write_bytes(_RECORD.encode(record))
    return record


def load_run(path: Path) -> Run:
    """Read and verify a run folder.

    Raises:
        RunError: missing or altered files, another format.
    """
    if (path / MANIFEST).is_file():
        raise RunError(f"{path} is a bundle, not a run", "give the run that it was exported from")
    if not path.exists():
        raise RunError(f"no such run: {path}", "make one: rmatk train DATA -o RUN")
    if missing := [name for name in (RECORD, ADAPTER) if not (path / name).is_file()]:
        raise RunError(f"expected a run in {path}, found no {' and no '.join(missing)}", _AGAIN)
    try:
        record, ignored = _RECORD.decode((path / RECORD).read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path / RECORD} is not a run of this version: {error}", _AGAIN) from error
    if ignored:
        log.warning(
            "%s is of a newer minor version (1.%d); ignored: %s", path, record.minor, ", ".join(ignored)
        )
    found = sha256_file(path / ADAPTER)
    if found != record.adapter_sha256:
        raise RunError(
            f"{path / ADAPTER} was altered: expected SHA-256 {record.adapter_sha256}, found {found}", _AGAIN
        )
    try:
        adapter = safetensors.load_file(path / ADAPTER)
    except SafetensorError as error:
        raise RunError(f"{path / ADAPTER} cannot be read: {error}", _AGAIN) from error
    return Run(path, record, adapter)


def restore(run: Run, backbone: Backbone) -> AdaptedClip:
    """The trained model of a run, on the backbone it was trained with.

    Raises:
        RunError: another backbone, or weights that do not fit.
    """
    record = run.record
    if backbone.digest != record.backbone_digest:
        raise RunError(
            f"wrong checkpoint for this run: {run.path} was trained on {record.config.model} "
            f"({record.config.pretrained}) with weights {record.backbone_digest}, found {backbone.name} "
            f"({backbone.pretrained}) with weights {backbone.digest}",
            "give the checkpoint that the run was trained with, or train again",
        )
    model = AdaptedClip(backbone.stretched(record.preprocess.stretch), record.config, torch.Generator())
    model.load_adapter_state(run.adapter)
    return model


def _versions() -> dict[str, str]:
    packages = ("rmatk", "torch", "open_clip_torch", "numpy", "pillow", "safetensors")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(name: str) -> str:
    if name == "rmatk":  # also known in a bare checkout, which has no package metadata
        from rmatk_runtime import __version__

        return __version__
    return version(name)
