"""Few-shot training of RMAdapter's weights: a few photos per class and a frozen CLIP -> a run folder.

The recipe follows MMA's public configuration where the paper is silent (cosine schedule, one prompt per
class, no augmentation); AdamW rather than SGD, the learning rate, the number of epochs and the weights of
the loss terms are ours, chosen on validation shots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from rmatk.adapter import adapter_params
from rmatk.backbone import Backbone
from rmatk.cache import ImageCache, TextCache, accuracies, cache_images, cache_texts
from rmatk.config import TrainConfig
from rmatk.data import few_shot, read_folder
from rmatk.losses import LossTerms, classification, consistency
from rmatk.model import AdaptedClip, mean_of_templates
from rmatk.run import METRICS, Metrics, Run, load_run, run_folder, write_run
from rmatk_runtime.errors import RunError, naming_storage_errors


@dataclass(frozen=True)
class Step:
    """What one step reports: its number from 1, its epoch from 1, and every loss term by name."""

    step: int
    epoch: int
    lr: float
    accuracy: float
    terms: dict[str, float]


class Listener:
    """Hears how training goes; this one does nothing."""

    def started(self, photos: int, steps: int) -> None:
        """Before anything is computed."""

    def read(self, photos: int) -> None:
        """So many more photos have been read and run through the frozen blocks."""

    def stepped(self, step: Step) -> None:
        """One step is done."""


def train(
    config: TrainConfig, backbone: Backbone, data: Path, out: Path, listener: Listener | None = None
) -> Run:
    """Train on a folder of photos and write the run folder ``out``, whole or not at all.

    Raises:
        DataError: folders or photos that cannot be used.
        BackboneError: more blocks to adapt than a tower has.
        RunError: a loss that is not a number.
        StorageError: ``out`` holds something else, disk full, no permission.
    """
    listener = listener or Listener()
    shots = few_shot(read_folder(data), config.shots, config.seed)
    with run_folder(out) as partial:
        model = AdaptedClip(backbone, config, torch.Generator().manual_seed(config.seed))
        config = msgspec.structs.replace(
            config, image_blocks=len(model.image.blocks), text_blocks=len(model.text.blocks)
        )
        files, labels = shots.train.flat()
        val_files, val_labels = shots.validation.flat()
        listener.started(len(files) + len(val_files), config.epochs * math.ceil(len(files) / config.batch))
        images = cache_images(
            model, files + val_files, labels + val_labels, backbone.preprocess, listener.read
        )
        seen, unseen = _split(images, len(files))
        text = cache_texts(model, shots.train.class_names, config.templates)
        with naming_storage_errors(out), (partial / METRICS).open("w", encoding="utf-8") as log:
            for step in fit(model, seen, text, config):
                log.write(msgspec.json.encode(_flat(step)).decode() + "\n")
                listener.stepped(step)
        write_run(partial, config, model, shots, _metrics(model, seen, unseen, text))
    return load_run(out)


def fit(model: AdaptedClip, images: ImageCache, text: TextCache, config: TrainConfig) -> Iterator[Step]:
    """Train the adapters in place, one step per item taken.

    Raises:
        RunError: a loss term that is not finite, by step and name.
    """
    parameters = list(adapter_params(model).values())
    optimizer = _optimizer(parameters, config)
    order = np.random.default_rng(config.seed)
    per_epoch = math.ceil(len(images.labels) / config.batch)
    total = config.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: 0.5 * (1 + math.cos(math.pi * n / total))
    )
    for number in range(total):
        if number % per_epoch == 0:
            shuffled = torch.from_numpy(order.permutation(len(images.labels))).to(images.labels.device)
        chosen = shuffled[number % per_epoch * config.batch :][: config.batch]
        terms, accuracy = losses(model, images, text, chosen, config)
        values = terms.values()
        _check_finite(values, number + 1)
        optimizer.zero_grad()
        torch.autograd.backward(terms.total)
        optimizer.step()
        lr = float(schedule.get_last_lr()[0])
        schedule.step()
        yield Step(number + 1, number // per_epoch + 1, lr, accuracy, values)


def losses(
    model: AdaptedClip, images: ImageCache, text: TextCache, chosen: Tensor, config: TrainConfig
) -> tuple[LossTerms, float]:
    """The loss terms of the photos ``chosen`` (n,) int64 against all classes, and the batch's accuracy."""
    features, image_rec = model.image.reconstructed(images.x[chosen], None)
    prompts, text_rec = model.text.reconstructed(text.x, text.lengths)
    classes = mean_of_templates(prompts, text.templates)
    labels = images.labels[chosen]
    logits = model.logit_scale * features @ classes.T
    terms = LossTerms(
        ce=classification(logits, labels),
        image_rec=config.l1 * image_rec,
        text_rec=config.l2 * text_rec,
        image_con=config.l3 * consistency(features, images.frozen[chosen]),
        text_con=config.l4 * consistency(classes, text.frozen),
    )
    return terms, logits.argmax(dim=-1).eq(labels).float().mean().item()


def _optimizer(parameters: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)


def _check_finite(values: dict[str, float], step: int) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value) and name != "loss"]
    if bad:
        raise RunError(
            f"training diverged: at step {step} the term {', '.join(bad)} is not a finite number",
            "train again with a lower --lr or --scale",
        )


def _split(images: ImageCache, count: int) -> tuple[ImageCache, ImageCache]:
    """The first ``count`` photos, and the rest."""
    return (
        ImageCache(images.x[:count], images.frozen[:count], images.labels[:count]),
        ImageCache(images.x[count:], images.frozen[count:], images.labels[count:]),
    )


def _metrics(model: AdaptedClip, seen: ImageCache, unseen: ImageCache, text: TextCache) -> Metrics:
    train_accuracy, train_zero_shot = accuracies(model, seen, text)
    if not len(unseen.labels):
        return Metrics(train_accuracy, train_zero_shot, None, None)
    return Metrics(train_accuracy, train_zero_shot, *accuracies(model, unseen, text))


def _flat(step: Step) -> dict[str, float]:
    return {"step": step.step, "epoch": step.epoch, "lr": step.lr, "accuracy": step.accuracy, **step.terms}
