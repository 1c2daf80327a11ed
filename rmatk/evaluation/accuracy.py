"""The accuracy of a run on photos it was not trained on, with CLIP's zero-shot accuracy."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from rmatk.data.duplicates import Fingerprints, fingerprints, joined, seen_before
from rmatk.data.photos import Dataset, pixel_batches
from rmatk.method.model import AdaptedClip
from rmatk_runtime.errors import DataError
from rmatk_runtime.intervals import wilson
from rmatk_runtime.pictures.preprocess import normalise
from rmatk_runtime.progress import OnProgress, no_progress


class ClassReport(msgspec.Struct, frozen=True):
    """Accuracies of one class's photos, in [0, 1]."""

    name: str
    images: int
    accuracy: float
    zero_shot_accuracy: float
    accuracy_interval: tuple[float, float] = (0.0, 1.0)
    """95 % (Wilson)."""
    zero_shot_interval: tuple[float, float] = (0.0, 1.0)


class EvalReport(msgspec.Struct, frozen=True):
    """Top-1 accuracies in [0, 1] among all classes of the run, over all photos and by class."""

    images: int
    accuracy: float
    zero_shot_accuracy: float
    per_class: tuple[ClassReport, ...]
    unreadable: tuple[str, ...] = ()
    """What was wrong with each photo that was left out."""
    accuracy_interval: tuple[float, float] = (0.0, 1.0)
    """95 % (Wilson), as if the photos were independent."""
    zero_shot_interval: tuple[float, float] = (0.0, 1.0)
    trained_on: tuple[str, ...] = ()
    """Photos that the run was trained or validated on, byte for byte or by their pixels; counted above."""
    trained_on_bytes: int = 0
    """How many of them byte for byte."""
    images_unseen: int | None = None
    """The others; None: the run does not record its photos."""
    accuracy_unseen: float | None = None


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
    training: Fingerprints | None = None,
    on_progress: OnProgress = no_progress,
) -> EvalReport:
    """Classify every photo of ``dataset`` with and without the adapters.

    Up to the share ``max_bad`` of photos may be unreadable: these are listed in the report and count nowhere.
    ``training``: digests of the photos that the model was trained on, to find them among these.

    Raises:
        DataError: unknown classes, more unreadable photos than that, or none that can be read.
    """
    labels = known_labels(dataset, class_names)
    adapted_classes = model.class_embeddings(class_names, templates)
    frozen_classes = model.class_embeddings(class_names, templates, frozen=True)
    adapted, frozen = [], []
    bad: dict[int, str] = {}
    files = dataset.flat()[0]
    spec, device = model.backbone.preprocess, model.backbone.device
    prints: list[Fingerprints] = []
    read = 0
    for pixels in pixel_batches(files, spec, batch, max_bad=max_bad, on_bad=bad.__setitem__):
        x, lengths = model.image.lower(torch.from_numpy(normalise(pixels, spec)).to(device))
        adapted.append((model.image.adapted(x, lengths) @ adapted_classes.T).argmax(dim=-1).cpu())
        frozen.append((model.image.frozen(x, lengths) @ frozen_classes.T).argmax(dim=-1).cpu())
        readable = [file for number, file in enumerate(files) if number not in bad]
        prints.append(fingerprints(readable[read : read + len(pixels)], pixels))
        read += len(pixels)
        on_progress("photos", read, len(files))
    if not adapted:
        raise DataError(f"{dataset.root} has no photo that can be read", "give photos to measure on")
    truth = torch.tensor([label for index, label in enumerate(labels) if index not in bad])
    right, zero_shot = torch.cat(adapted) == truth, torch.cat(frozen) == truth
    report = _report(class_names, truth, right, zero_shot, tuple(bad.values()))
    if training is None or not training.files:
        return report
    names = [name for number, name in enumerate(dataset.relative()) if number not in bad]
    return _without_seen(report, names, right, seen_before(joined(prints), training))


def _without_seen(
    report: EvalReport, names: list[str], right: Tensor, seen: tuple[list[int], list[int]]
) -> EvalReport:
    """The report with the photos that were trained on, and the accuracy on the others."""
    known = sorted({*seen[0], *seen[1]})
    new = torch.ones(len(names), dtype=torch.bool)
    new[known] = False
    return msgspec.structs.replace(
        report,
        trained_on=tuple(names[number] for number in known),
        trained_on_bytes=len(seen[0]),
        images_unseen=int(new.sum()),
        accuracy_unseen=_share(right[new]) if new.any() else None,
    )


def _report(
    class_names: tuple[str, ...], truth: Tensor, right: Tensor, zero_shot: Tensor, bad: tuple[str, ...]
) -> EvalReport:
    """Labels (N,), and whether each was met by the adapted and by the frozen model (N,) bool."""
    classes = []
    for index, name in enumerate(class_names):
        own = truth == index
        if own.any():
            shares = _share(right[own]), _share(zero_shot[own])
            intervals = (wilson(share, int(own.sum())) for share in shares)
            classes.append(ClassReport(name, int(own.sum()), *shares, *intervals))
    accuracy, frozen = _share(right), _share(zero_shot)
    return EvalReport(
        len(truth),
        accuracy,
        frozen,
        tuple(classes),
        bad,
        accuracy_interval=wilson(accuracy, len(truth)),
        zero_shot_interval=wilson(frozen, len(truth)),
    )


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / len(hits)
