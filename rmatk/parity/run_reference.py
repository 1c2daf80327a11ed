"""A trained run as a parity reference: the model in PyTorch, with both branches, on given photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from onnx import ModelProto
from PIL import Image

from rmatk.backbones import backbone as backbones
from rmatk.backbones.backbone import Backbone
from rmatk.data.duplicates import trained_on
from rmatk.data.formats import open_dataset
from rmatk.data.photos import Dataset, pixel_batches
from rmatk.deployment.from_run import adapted_towers, run_digest
from rmatk.notes import note
from rmatk.run import Run, load_run, restore
from rmatk_export.fold import fold
from rmatk_export.graph.encoder import image_graph
from rmatk_export.parity.folded import FoldedCandidate
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import RunError, command
from rmatk_runtime.parity.compare import TOLERANCES, Expected, Judge, compare_embeddings
from rmatk_runtime.parity.reference import Batch
from rmatk_runtime.parity.stage import StageKind, StageResult, equality
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.pictures.preprocess import normalise


class RunReference:
    """The trained model on ``photos``.

    Args:
        bundle: exported from ``run``.
        run: the trained run.
        backbone: the backbone it was trained on.
        photos: labelled photos; accuracy is not measured if a class is not among the bundle's labels.

    Raises:
        RunError: the bundle was exported from another run, or the backbone is another one.
    """

    def __init__(self, bundle: Bundle, run: Run, backbone: Backbone, photos: Dataset) -> None:
        recorded, found = bundle.manifest.provenance.run_digest, run_digest(run)
        if recorded != found:
            cure = command("rmatk", "export", run.path, "-o", bundle.path)
            raise RunError(
                f"{bundle.path} was exported from another run: it names {recorded[:12]}..., {run.path} is "
                f"{found[:12]}...",
                f"give that run, or export this one: {cure}",
            )
        self._bundle, self._backbone, self._photos = bundle, backbone, photos
        self._model, self._scale = restore(run, backbone), run.record.config.scale
        self.names: Sequence[str] = photos.relative()
        self.basis = f"against {run.path} in PyTorch, both branches present, on the photos in {photos.root}"

    @classmethod
    def open(cls, bundle: Bundle, run: Path, data: Path) -> RunReference:
        """The run in the folder ``run`` on the photos in ``data``.

        Raises:
            RunError: not a run, or not that of the bundle.
            BackboneError: the run's backbone cannot be loaded.
            DataError: nothing that can be read in ``data``.
        """
        loaded = load_run(run)
        config = loaded.record.config
        photos = open_dataset(data, "test", loaded.record.class_map)
        note(photos.notes)
        backbone = backbones.load_backbone(config.model, config.pretrained)
        reference = cls(bundle, loaded, backbone, photos)
        reference.basis = f"against {run} in PyTorch, both branches present, on the photos in {data}"
        if seen := trained_on(photos.flat()[0], loaded.record.fingerprints):
            reference.basis += f", of which {seen} were trained or validated on"
        known = bundle.classes().names
        if strange := [name for name in photos.class_names if name not in known]:
            reference.basis += (
                f"; not labels of the bundle, so nothing is said of accuracy: {', '.join(strange)}"
            )
        return reference

    def truth(self, known: Sequence[str]) -> Sequence[str] | None:
        """See :meth:`rmatk_runtime.parity.reference.Reference.truth`."""
        truth = [self._photos.class_names[label] for label in self._photos.flat()[1]]
        return truth if set(truth) <= set(known) else None

    def checks(self) -> Iterator[StageResult]:
        """The bundle's preprocessing is the backbone's, and its class matrix that of the text tower."""
        found, expected = self._bundle.manifest.preprocess, self._model.backbone.preprocess
        if found.passes is None:  # of before it was recorded: the same order
            found = msgspec.structs.replace(found, passes=expected.passes)
        fields = expected.__struct_fields__
        differ = [name for name in fields if getattr(found, name) != getattr(expected, name)]
        difference = None
        if differ:
            name = differ[0]
            difference = f"has {name} {getattr(found, name)}, the backbone {getattr(expected, name)}"
        yield equality("preprocessing", StageKind.PREPROCESSING, len(self.names), difference)
        yield self._check_classes()

    def batches(self, size: int) -> Iterator[Batch]:
        """See :meth:`rmatk_runtime.parity.reference.Reference.batches`.

        Raises:
            DataError: photos that cannot be read.
        """
        spec, (files, _), start = self._bundle.manifest.preprocess, self._photos.flat(), 0
        for pixels in pixel_batches(files, spec, size):
            tensors = normalise(pixels, spec)
            embeddings = self._model.encode_images(torch.from_numpy(tensors)).cpu().numpy()
            yield Batch(
                pixels, tensors, embeddings, _opener(files[start : start + size], Decoding(spec.stretch))
            )
            start += size

    def folded(self) -> FoldedCandidate:
        """The folded image tower, the candidate between the trained model and the graphs."""
        return FoldedCandidate(fold(adapted_towers(self._model, self._scale)[0]))

    def graph(self) -> ModelProto:
        """The float32 image graph, written again from the run: the reference for bisection."""
        return image_graph(self.folded().tower)

    def picture(self, name: str) -> Image.Image:
        """A photo by its name."""
        return load_image(self._photos.root / name, Decoding(self._bundle.manifest.preprocess.stretch))

    def _check_classes(self) -> StageResult:
        """The bundle's class matrix against the adapted text tower, on the prompts it was made from."""
        labels, classes, model = self._bundle.manifest.labels, self._bundle.classes(), self._model
        plain = [name for name in classes.names if name not in labels.prompts]
        rows = {}
        if plain:
            rows = dict(
                zip(plain, model.class_embeddings(plain, labels.templates).cpu().numpy(), strict=True)
            )
        for name, prompts in labels.prompts.items():
            rows[name] = model.class_embeddings([name], prompts).cpu().numpy()[0]
        return compare_embeddings(
            "class matrix",
            StageKind.CLASS_MATRIX,
            "fp32",
            Expected(classes.names, np.stack([rows[name] for name in classes.names])),
            classes.embeddings,
            Judge(classes, self._bundle.manifest.decision, TOLERANCES),
        )


def _opener(files: Sequence[Path], decoding: Decoding) -> Callable[[int], Image.Image]:
    return lambda number: load_image(files[number], decoding)
