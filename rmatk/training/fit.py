"""The training loop: adapters, kept activations and settings in, one report per step out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rmatk.config import TrainConfig, photos_per_step
from rmatk.method.losses import LossTerms, classification, consistency
from rmatk.method.model import AdaptedClip
from rmatk.training import distributed
from rmatk.training.cache import PhotoBatches, TextCache
from rmatk.training.checkpoint import TrainState
from rmatk.training.precision import autocast, resolved
from rmatk_runtime.errors import RunError


@dataclass(frozen=True)
class Step:
    """What one step reports: its number from 1, its epoch from 1, its photos, and every loss term by name."""

    step: int
    epoch: int
    lr: float
    accuracy: float
    photos: int
    terms: dict[str, float]


OnStep = Callable[[Step], None]
"""Called with the report of every training step."""


def no_report(step: Step) -> None:
    """An ``OnStep`` that does nothing."""


def fit(
    model: AdaptedClip,
    images: PhotoBatches,
    text: TextCache,
    config: TrainConfig,
    state: TrainState | None = None,
) -> Iterator[Step]:
    """Train the adapters in place, one step per item taken, from where ``state`` stands.

    Raises:
        RunError: a loss term that is not finite, by step and name.
    """
    state = state or TrainState(model, config)
    device = model.backbone.device
    precision = resolved(config.precision, device)
    batch = photos_per_step(config, len(text.frozen))
    per_epoch = math.ceil(len(images.labels) / batch)
    total = config.epochs * per_epoch
    for number, chosen in itertools.islice(
        enumerate(_batches(images.labels, config, batch)), state.step, None
    ):
        epoch = number // per_epoch + 1
        lr = config.lr * 0.5 * (1 + math.cos(math.pi * number / total))
        state.optimizer.param_groups[0]["lr"] = lr
        state.optimizer.zero_grad()
        own = distributed.share(chosen)
        weight = len(own) / len(chosen)
        values = dict.fromkeys(_REPORTED, 0.0)
        if len(own):
            with autocast(precision, device):
                terms, accuracy = losses(model, images, text, own, config, epoch)
            values = {n: weight * v for n, v in {**terms.values(), "accuracy": accuracy}.items()}
            torch.autograd.backward(state.scaler.scale(terms.total * weight))
        values = distributed.sum_values(values, device)
        _check_finite(values, number + 1)
        distributed.sum_gradients(state.parameters.values())
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.step = number + 1
        yield Step(number + 1, epoch, lr, values.pop("accuracy"), len(chosen), values)


def _batches(labels: Tensor, config: TrainConfig, batch: int) -> Iterator[Tensor]:
    """The photos of every step, each epoch in an order of its own that the seed alone decides."""
    order = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        shuffled = torch.from_numpy(order.permutation(len(labels))).to(labels.device)
        yield from torch.split(shuffled, batch)


def losses(
    model: AdaptedClip,
    images: PhotoBatches,
    text: TextCache,
    chosen: Tensor,
    config: TrainConfig,
    epoch: int | None = None,
) -> tuple[LossTerms, float]:
    """The loss terms of the photos ``chosen`` (n,) int64 against all classes, and the batch's accuracy.

    ``epoch``: see :meth:`rmatk.training.cache.PhotoBatches.batch`.
    """
    x, frozen = images.batch(chosen, epoch)
    features, image_rec = model.image.reconstructed(x, None)
    classes, text_rec = text.reconstructed(model)
    labels = images.labels[chosen]
    logits = model.logit_scale * features @ classes.T
    terms = LossTerms(
        ce=classification(logits, labels),
        image_rec=config.image_rec_weight * image_rec,
        text_rec=config.text_rec_weight * text_rec,
        image_con=config.image_con_weight * consistency(features, frozen),
        text_con=config.text_con_weight * consistency(classes, text.frozen),
    )
    return terms, logits.argmax(dim=-1).eq(labels).float().mean().item()


_REPORTED = ("loss", *LossTerms.__dataclass_fields__, "accuracy")


def _check_finite(values: dict[str, float], step: int) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value) and name != "loss"]
    if bad:
        raise RunError(
            f"training diverged: at step {step} the term {', '.join(bad)} is not a finite number",
            "train again with a lower --lr or --scale",
        )
