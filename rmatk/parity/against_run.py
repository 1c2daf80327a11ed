"""Parity where PyTorch is: the trained model with both branches against every later stage, on given photos.

The stages are walked in the data's order, so that the first bad one is where something was lost:
preprocessing, class matrix (text tower), folded towers in PyTorch, then each engine on the exported graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from onnx import ModelProto

from rmatk.backbones.backbone import Backbone
from rmatk.data.photos import Dataset, pixel_batches
from rmatk.deployment.from_run import adapted_towers, run_digest
from rmatk.method.model import AdaptedClip
from rmatk.parity.stages import CLASS_MATRIX
from rmatk.run import Run, restore
from rmatk_export.fold import fold
from rmatk_export.graph.encoder import image_graph
from rmatk_export.parity.folded import run_image
from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.errors import RunError, command
from rmatk_runtime.golden_check import Candidate
from rmatk_runtime.parity.compare import PREPROCESSING, TOLERANCES, StageResult, compare_embeddings
from rmatk_runtime.pictures.preprocess import normalise


def check_against_run(
    bundle: Bundle,
    engines: Sequence[Candidate],
    run: Run,
    backbone: Backbone,
    photos: Dataset,
    *,
    batch: int = 32,
    on_images: Callable[[int], None] = lambda count: None,
) -> list[StageResult]:
    """Compare every stage with the trained model on ``photos``, in the data's order.

    Where the preprocessing is not the backbone's, that stage is the only one: what follows starts from it.

    Args:
        bundle: exported from ``run``.
        engines: the bundle's image encoder on each engine to check.
        run: the trained run, the reference.
        backbone: the backbone it was trained on.
        photos: labelled photos; classes that the bundle does not know leave accuracy out.
        batch: photos at once.
        on_images: hears how many more photos are done.

    Raises:
        RunError: the bundle was exported from another run, or the backbone is another one.
        DataError: photos that cannot be read.
    """
    recorded, found = bundle.manifest.provenance.run_digest, run_digest(run)
    if recorded != found:
        raise RunError(
            f"{bundle.path} was exported from another run: it names {recorded[:12]}..., {run.path} is "
            f"{found[:12]}...",
            f"give that run, or export this one: {command('rmatk', 'export', run.path, '-o', bundle.path)}",
        )
    model = restore(run, backbone)
    config = run.record.config
    files, labels = photos.flat()
    preprocessing = _check_preprocessing(bundle, backbone, len(files))
    if not preprocessing:
        return [preprocessing]
    folded = fold(adapted_towers(model, config.scale)[0])
    parts: list[list[Float32]] = [[] for _ in range(2 + len(engines))]
    spec = bundle.manifest.preprocess
    for pixels in pixel_batches(files, spec, batch):
        images = normalise(pixels, spec)
        tensor = torch.from_numpy(images)
        parts[0].append(model.encode_images(tensor).cpu().numpy())
        parts[1].append(run_image(folded, tensor).numpy())
        for part, engine in zip(parts[2:], engines, strict=True):
            part.append(engine.embed(pixels, images))
        on_images(len(images))
    reference, *candidates = (np.concatenate(part) for part in parts)
    stages: list[tuple[str, Precision]] = [("torch folded", "fp32")]
    stages += [(engine.name, engine.precision) for engine in engines]
    truth = [photos.class_names[label] for label in labels]
    classes = bundle.classes()
    compare = partial(
        compare_embeddings,
        classes=classes,
        decision=bundle.manifest.decision,
        names=photos.relative(),
        truth=truth if set(truth) <= set(classes.names) else None,
    )
    results = [
        compare(stage, reference, candidate, tolerance=bundle.manifest.tolerances[precision])
        for (stage, precision), candidate in zip(stages, candidates, strict=True)
    ]
    return [preprocessing, _check_classes(bundle, classes, model), *results]


def reference_graph(run: Run, backbone: Backbone) -> ModelProto:
    """The float32 image graph as it follows from the run, written anew: what bisecting holds nodes against.

    Raises:
        RunError: another backbone.
    """
    image, _ = adapted_towers(restore(run, backbone), run.record.config.scale)
    return image_graph(fold(image))


def _check_preprocessing(bundle: Bundle, backbone: Backbone, images: int) -> StageResult:
    """The bundle's preprocessing must be the backbone's own."""
    found, expected = bundle.manifest.preprocess, backbone.preprocess
    wrong = [name for name in expected.__struct_fields__ if getattr(found, name) != getattr(expected, name)]
    reason = None
    if wrong:
        name = wrong[0]
        reason = f"has {name} {getattr(found, name)}, the backbone {getattr(expected, name)}"
    return StageResult(stage=PREPROCESSING, images=images, passed=not wrong, reason=reason, tolerance=None)


def _check_classes(bundle: Bundle, classes: ClassMatrix, model: AdaptedClip) -> StageResult:
    """The bundle's class matrix against PyTorch's adapted text tower, on the prompts it was made from."""
    labels = bundle.manifest.labels
    own = [name for name in classes.names if name not in labels.prompts]
    rows = (
        dict(zip(own, model.class_embeddings(own, labels.templates).cpu().numpy(), strict=True))
        if own
        else {}
    )
    for name, prompts in labels.prompts.items():
        rows[name] = model.class_embeddings([name], prompts).cpu().numpy()[0]
    return compare_embeddings(
        CLASS_MATRIX,
        np.stack([rows[name] for name in classes.names]),
        classes.embeddings,
        classes=classes,
        decision=bundle.manifest.decision,
        tolerance=TOLERANCES["fp32"],
        names=classes.names,
    )
