"""The methods that are compared, under the same shots, prompts and backbone.

A method is fitted to the training shots and then asked for a classifier over any class names. One that has
nothing to say about some of the names gives none: the comparison leaves that cell empty rather than putting
a number there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from rmatk.config import LOSS_WEIGHTS, TrainConfig
from rmatk.data.photos import Dataset
from rmatk.evaluation.baselines import LinearProbe, tip_logits, trained_keys
from rmatk.evaluation.features import FrozenFeatures
from rmatk.method.model import AdaptedClip
from rmatk.training.cache import ImageCache, cache_texts
from rmatk.training.fit import OnStep, fit, no_report

Classify = Callable[[ImageCache], Tensor]
"""A batch of n photos -> logits (n, C)."""
Fitted = Callable[[tuple[str, ...], tuple[str, ...]], "Classify | None"]
"""Class names (C), templates -> a classifier over these classes, or None where the method knows none."""

ABLATIONS: dict[str, dict[str, float]] = {
    "rmadapter": {},
    "adapter-only": dict.fromkeys(LOSS_WEIGHTS, 0),
    "no-reconstruction": {"image_rec_weight": 0, "text_rec_weight": 0},
    "no-image-reconstruction": {"image_rec_weight": 0},
    "no-text-reconstruction": {"text_rec_weight": 0},
    "no-consistency": {"image_con_weight": 0, "text_con_weight": 0},
    "no-image-consistency": {"image_con_weight": 0},
    "no-text-consistency": {"text_con_weight": 0},
}
"""RMAdapter, and RMAdapter with terms of its loss switched off; without all four it is like MMA."""


@dataclass(frozen=True)
class Task:
    """What a method is fitted to: the training shots and, in ``config``, seed and hyperparameters.

    ``on_step`` is called for every training step of an adapter.
    """

    features: FrozenFeatures
    shots: Dataset
    templates: tuple[str, ...]
    config: TrainConfig
    on_step: OnStep = no_report


def zero_shot(task: Task) -> Fitted:
    """CLIP as it is; looks at no shots."""
    clip = task.features.clip

    def over(names: tuple[str, ...], templates: tuple[str, ...]) -> Classify:
        classes = clip.class_embeddings(names, templates, frozen=True)
        return lambda images: images.frozen @ classes.T

    return over


def adapters(**terms: float) -> Callable[[Task], Fitted]:
    """RMAdapter with some of the weights of its loss replaced."""

    def train(task: Task) -> Fitted:
        config = msgspec.structs.replace(task.config, templates=task.templates, **terms)
        generator = torch.Generator().manual_seed(config.seed)
        model = AdaptedClip(task.features.clip.backbone, config, generator)
        text = cache_texts(model, task.shots.class_names, task.templates)
        for step in fit(model, task.features.all(task.shots), text, config):
            task.on_step(step)

        def over(names: tuple[str, ...], templates: tuple[str, ...]) -> Classify:
            classes = model.class_embeddings(names, templates)
            return torch.no_grad()(lambda images: model.image.adapted(images.x, None) @ classes.T)

        return over

    return train


def linear_probe(task: Task) -> Fitted:
    """Logistic regression on frozen features: for classes it was trained on only."""
    shots = task.features.all(task.shots)
    known = task.shots.class_names
    probe = LinearProbe(shots.frozen, shots.labels, len(known), task.config.seed)

    def over(names: tuple[str, ...], templates: tuple[str, ...]) -> Classify | None:
        if not set(names) <= set(known):
            return None
        columns = range(len(known)) if names == known else [known.index(name) for name in names]
        return lambda images: probe.logits(images.frozen)[:, list(columns)]

    return over


def tip_adapter(task: Task) -> Fitted:
    """Tip-Adapter; zero-shot for classes without shots."""
    shots = task.features.all(task.shots)
    return _cache_model(task, shots.labels, shots.frozen)


def tip_adapter_f(task: Task) -> Fitted:
    """Tip-Adapter-F: its keys are trained."""
    clip, shots = task.features.clip, task.features.all(task.shots)
    classes = clip.class_embeddings(task.shots.class_names, task.templates, frozen=True)
    keys = trained_keys(shots.frozen, shots.labels, classes, clip.logit_scale, task.config.seed)
    return _cache_model(task, shots.labels, keys)


METHODS: dict[str, Callable[[Task], Fitted]] = {
    "zero-shot": zero_shot,
    "linear-probe": linear_probe,
    "tip-adapter": tip_adapter,
    "tip-adapter-f": tip_adapter_f,
    **{name: adapters(**terms) for name, terms in ABLATIONS.items()},
}
"""Every method by the name that ``rmatk eval --methods`` takes."""


def _cache_model(task: Task, labels: Tensor, keys: Tensor) -> Fitted:
    """Tip-Adapter over any classes: a shot whose class is not among them votes for none."""
    clip, known = task.features.clip, task.shots.class_names

    def over(names: tuple[str, ...], templates: tuple[str, ...]) -> Classify:
        classes = clip.class_embeddings(names, templates, frozen=True)
        place = torch.tensor([names.index(name) if name in names else len(names) for name in known])
        values = F.one_hot(place.to(labels.device)[labels], len(names) + 1)[:, :-1].to(keys)
        return lambda images: tip_logits(images.frozen, classes, keys, values, clip.logit_scale)

    return over
