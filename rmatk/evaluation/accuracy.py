"""The accuracy of a run on photos it was not trained on, with CLIP's zero-shot accuracy."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import torch
from torch import Tensor

from rmatk.data.photos import Dataset, image_batches
from rmatk.method.model import AdaptedClip
from rmatk_runtime.errors import DataError


class ClassReport(msgspec.Struct, frozen=True):
    """Accuracies of one class's photos, in [0, 1]."""

    name: str
    images: int
    accuracy: float
    zero_shot_accuracy: float


class EvalReport(msgspec.Struct, frozen=True):
    """Top-1 accuracies in [0, 1] among all classes of the run, over all photos and by class."""

    images: int
    accuracy: float
    zero_shot_accuracy: float
    per_class: tuple[ClassReport, ...]
    unreadable: tuple[str, ...] = ()
    """What was wrong with each photo that was left out."""


def known_labels(dataset: Dataset, class_names: tuple[str, ...]) -> list[int]:
    """The run's class index of every photo of ``dataset.flat()``, classes being matched by name.

    Raises:
        DataError: a class that the run does not know.
    """
    dataset.under(class_names)
    if dataset.class_names == class_names:  # of several classes with one name each keeps its own
        return dataset.flat()[1]
    index = [class_names.index(name) for name in dataset.class_names]
    return [index[label] for label in dataset.flat()[1]]


@torch.no_grad()
def evaluate(
    model: AdaptedClip,
    class_names: tuple[str, ...],
    templates: tuple[str, ...],
    dataset: Dataset,
    *,
    batch: int = 64,
    max_bad: float = 0.0,
    on_images: Callable[[int], None] = lambda count: None,
) -> EvalReport:
    """Classify every photo of ``dataset`` with and without the adapters.

    Up to the share ``max_bad`` of photos may be unreadable: these are listed in the report and count nowhere.

    Raises:
        DataError: unknown classes, more unreadable photos than that, or none that can be read.
    """
    labels = known_labels(dataset, class_names)
    adapted_classes = model.class_embeddings(class_names, templates)
    frozen_classes = model.class_embeddings(class_names, templates, frozen=True)
    adapted, frozen = [], []
    bad: dict[int, str] = {}
    batches = image_batches(
        dataset.flat()[0], model.backbone.preprocess, batch, max_bad=max_bad, on_bad=bad.__setitem__
    )
    for images in batches:
        x, lengths = model.image.lower(torch.from_numpy(images).to(model.backbone.device))
        adapted.append((model.image.adapted(x, lengths) @ adapted_classes.T).argmax(dim=-1).cpu())
        frozen.append((model.image.frozen(x, lengths) @ frozen_classes.T).argmax(dim=-1).cpu())
        on_images(len(images))
    if not adapted:
        raise DataError(f"{dataset.root} has no photo that can be read", "give photos to measure on")
    truth = torch.tensor([label for index, label in enumerate(labels) if index not in bad])
    right, zero_shot = torch.cat(adapted) == truth, torch.cat(frozen) == truth
    return _report(class_names, truth, right, zero_shot, tuple(bad.values()))


def _report(
    class_names: tuple[str, ...], truth: Tensor, right: Tensor, zero_shot: Tensor, bad: tuple[str, ...]
) -> EvalReport:
    """Labels (N,), and whether each was met by the adapted and by the frozen model (N,) bool."""
    classes = []
    for index, name in enumerate(class_names):
        own = truth == index
        if own.any():
            classes.append(ClassReport(name, int(own.sum()), _share(right[own]), _share(zero_shot[own])))
    return EvalReport(len(truth), _share(right), _share(zero_shot), tuple(classes), bad)


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / len(hits)
