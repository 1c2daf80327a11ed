"""Few-shot training of RMAdapter: a few photos per class and a frozen CLIP -> a run folder.

The recipe follows MMA's public configuration where the paper is silent (cosine schedule, one prompt per
class, no augmentation); AdamW rather than SGD, the learning rate, the number of epochs and the weights of
the loss terms are ours, chosen on validation shots.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from rmatk.backbones.backbone import Backbone
from rmatk.calibration import Calibration, calibrate
from rmatk.config import Execution, TrainConfig, photos_per_step
from rmatk.data.class_names import check_twins, codes_note
from rmatk.data.duplicates import Fingerprints, fingerprints, joined, repeated_notes
from rmatk.data.formats import open_dataset, prompts
from rmatk.data.photos import Dataset
from rmatk.data.shots import FewShot, few_shot, without_unreadable
from rmatk.method.model import AdaptedClip
from rmatk.notes import note
from rmatk.pages.run_report import ValidationAnswers, write_report
from rmatk.run import METRICS, RECORD, Metrics, Run, load_run, run_folder, write_run
from rmatk.training import distributed
from rmatk.training.cache import (
    ImageCache,
    ImageStream,
    PhotoBatches,
    TextCache,
    cache_images,
    cache_texts,
    class_logits,
    stream_images,
)
from rmatk.training.checkpoint import (
    Identity,
    TrainState,
    forget_checkpoint,
    load_checkpoint,
    partial_folder,
    save_checkpoint,
    working_folder,
)
from rmatk.training.fit import OnStep, Step, fit, no_report
from rmatk.training.precision import resolved
from rmatk.training.prompt_check import check_prompts
from rmatk_runtime.arrays import UInt8
from rmatk_runtime.bundle.label_head import softmax
from rmatk_runtime.errors import RunError, naming_storage_errors
from rmatk_runtime.files import check_replaceable
from rmatk_runtime.pictures.decode import Decoding
from rmatk_runtime.progress import OnProgress, no_progress


@dataclass(frozen=True)
class _Report:
    """The callbacks of a training; other processes than the main one report nothing."""

    on_step: OnStep
    on_progress: OnProgress

    def note(self, notes: Sequence[str]) -> None:
        """What is worth knowing before the training is over."""
        if distributed.is_main():
            note(notes)


def train(
    config: TrainConfig,
    backbone: Backbone,
    data: Path,
    out: Path,
    on_step: OnStep = no_report,
    execution: Execution | None = None,
    *,
    on_progress: OnProgress = no_progress,
    class_map: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Run:
    """Train on labelled photos of any form and write the run folder ``out``, whole or not at all.

    A run that was killed goes on from its last checkpoint when this is called again with the same arguments.
    ``class_map`` gives a name to each code that the photos' classes are called by; ``notes`` are recorded.

    Raises:
        DataError: folders or photos that cannot be used.
        BackboneError: more blocks to adapt than a tower has, a precision that the device does not have.
        RunError: a loss that is not a number; a checkpoint left by other arguments.
        StorageError: ``out`` holds something else or is being made by another process; disk full.
    """
    check_replaceable(out, marker=RECORD)
    execution = execution or Execution()
    report = _Report(on_step, on_progress) if distributed.is_main() else _Report(no_report, no_progress)
    dataset = open_dataset(data, "train", class_map)
    config = msgspec.structs.replace(config, templates=prompts(dataset, config))
    shots = without_unreadable(
        few_shot(dataset, config.shots, config.seed), config.max_bad, Decoding(config.stretch)
    )
    shots = replace(shots, notes=(*shots.notes, *_class_notes(backbone, dataset, config)))
    report.note(shots.notes)
    shots = replace(shots, notes=(*notes, *shots.notes))
    backbone = backbone.stretched(config.stretch)
    model = AdaptedClip(backbone, config, torch.Generator().manual_seed(config.seed))
    config = msgspec.structs.replace(
        config,
        model=backbone.name,
        pretrained=backbone.pretrained,
        image_blocks=len(model.image.blocks),
        text_blocks=len(model.text.blocks),
        batch=photos_per_step(config, len(dataset.class_names)),
        precision=resolved(config.precision, backbone.device),
    )
    if distributed.is_main():
        with working_folder(out, fresh=execution.fresh) as work:
            distributed.wait_for_all()  # nobody looks for a checkpoint that --fresh is about to remove
            _train_in(work, out, config, model, shots, report, execution, class_map)
    else:
        distributed.wait_for_all()
        _train_in(partial_folder(out), out, config, model, shots, report, execution, class_map)
    return load_run(out)


def _class_notes(backbone: Backbone, dataset: Dataset, config: TrainConfig) -> tuple[str, ...]:
    """What to know of the class names.

    Raises:
        DataError: two names that are one, or that the text tower reads alike.
    """
    check_twins(dataset.class_names, dataset.root)
    return (
        *check_prompts(backbone, dataset.class_names, config.templates, dataset.root),
        *codes_note(dataset.class_names, config.templates[0]),
    )


def _train_in(
    work: Path,
    out: Path,
    config: TrainConfig,
    model: AdaptedClip,
    shots: FewShot,
    report: _Report,
    execution: Execution,
    class_map: Mapping[str, str] | None,
) -> None:
    """Train in the folder ``work``, from its checkpoint if it has one, and write the run ``out``."""
    state = TrainState(model, config)
    identity = _identity(config, model.backbone, shots)
    load_checkpoint(work, state, identity)
    count = len(shots.train.flat()[0])
    total = config.epochs * math.ceil(count / photos_per_step(config, len(shots.train.class_names)))
    text = cache_texts(model, shots.train.class_names, config.templates)
    report.note(text.notes(len(model.text.blocks)))
    images, prints = _images(model, shots, config, execution, work, report.on_progress)
    shots = _noting_repeats(shots, prints, report)
    seen, unseen = images.split(count)
    if execution.compile:
        for tower in (model.image, model.text):
            setattr(tower, "reconstructed", torch.compile(tower.reconstructed))  # noqa: B010 - a method
    steps = fit(model, seen, text, config, state)
    try:
        for step in _logged(steps, work, state, identity, execution):
            report.on_step(step)
            report.on_progress("training", step.step, total)
    except RunError:  # it would end the same way again
        forget_checkpoint(work)
        raise
    if distributed.is_main():
        with run_folder(out) as partial:
            with naming_storage_errors(out):
                (partial / METRICS).write_bytes((work / METRICS).read_bytes())
            metrics, calibration, answers = _results(model, shots, seen, unseen, text)
            record = write_run(partial, config, model, shots, metrics, calibration, class_map, prints)
            write_report(partial, record, answers)
        forget_checkpoint(work)
    distributed.wait_for_all()


def _logged(
    steps: Iterator[Step], work: Path, state: TrainState, identity: Identity, execution: Execution
) -> Iterator[Step]:
    """Write a line per step and, every so often, a checkpoint; lines past the last one are replaced."""
    if not distributed.is_main():
        yield from steps
        return
    with naming_storage_errors(work):
        path = work / METRICS
        lines = path.read_bytes().splitlines(keepends=True) if state.step else []
        path.write_bytes(b"".join(lines[: state.step]))
    saved = time.monotonic()
    with naming_storage_errors(work):
        log = path.open("ab", buffering=0)
    with log:
        for step in steps:
            with naming_storage_errors(work):
                log.write(msgspec.json.encode(_flat(step)) + b"\n")
            if time.monotonic() - saved >= execution.checkpoint_every:
                save_checkpoint(work, state, identity)
                saved = time.monotonic()
            yield step


def _images(
    model: AdaptedClip,
    shots: FewShot,
    config: TrainConfig,
    execution: Execution,
    work: Path,
    on_progress: OnProgress,
) -> tuple[ImageCache | ImageStream, Fingerprints]:
    """The training photos and, after them, the validation photos; and what tells each of them again."""
    files, labels = shots.flat()
    spec = model.backbone.preprocess
    found: list[Fingerprints] = []

    def hear(pixels: UInt8) -> None:
        start = sum(len(prints.files) for prints in found)
        found.append(fingerprints(files[start : start + len(pixels)], pixels))
        on_progress("photos", start + len(pixels), len(files))

    images: ImageCache | ImageStream
    if execution.cache == "off" or config.augment:
        seed = config.seed if config.augment else None
        images = stream_images(model, files, labels, spec, hear, augment=seed)
    else:
        images = cache_images(model, files, labels, spec, hear, mode=execution.cache, folder=work)
    return images, joined(found)


def _noting_repeats(shots: FewShot, prints: Fingerprints, report: _Report) -> FewShot:
    """The same shots with notes on pictures that are there twice."""
    notes = repeated_notes(*shots.flat(), prints, len(shots.train.flat()[0]))
    report.note(notes)
    return replace(shots, notes=(*shots.notes, *notes))


def _size(file: Path) -> int | None:
    """Bytes of a photo; None where a list names one that is not there, which reading it will tell."""
    try:
        return file.stat().st_size
    except OSError:
        return None


def _identity(config: TrainConfig, backbone: Backbone, shots: FewShot) -> Identity:
    digest = hashlib.sha256()
    for part in (shots.train, shots.validation):
        for name, file, label in zip(part.relative(), *part.flat(), strict=True):
            digest.update(f"{part.class_names[label]}\0{name}\0{_size(file)}\0".encode())
    return Identity(
        config=config,
        backbone_digest=backbone.digest,
        photos=digest.hexdigest(),
        processes=distributed.size(),
    )


def _results(
    model: AdaptedClip, shots: FewShot, seen: PhotoBatches, unseen: PhotoBatches, text: TextCache
) -> tuple[Metrics, Calibration, ValidationAnswers]:
    """Accuracies on both sets of photos, and from the validation shots what the run is calibrated with."""
    known = [_top1(logits, seen.labels) for logits in class_logits(model, seen, text)]
    adapted, zero_shot = class_logits(model, unseen, text)
    held = [_top1(logits, unseen.labels) for logits in (adapted, zero_shot)]
    labels, classes = unseen.labels.cpu().numpy(), len(shots.train.class_names)
    calibration = calibrate(adapted.numpy(), labels, classes)
    probabilities = softmax(adapted.numpy().astype(np.float64) / calibration.temperature)
    answers = ValidationAnswers(shots.validation, probabilities, zero_shot.argmax(dim=-1).numpy())
    return Metrics(*known, *(held if len(labels) else (None, None))), calibration, answers


def _top1(logits: Tensor, labels: Tensor) -> float:
    return logits.argmax(dim=-1).eq(labels.cpu()).float().mean().item()


def _flat(step: Step) -> dict[str, float]:
    return {"step": step.step, "epoch": step.epoch, "lr": step.lr, "accuracy": step.accuracy, **step.terms}
