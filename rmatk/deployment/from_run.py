"""From a trained run to the input of the export: towers with adapters, class matrix, golden set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rmatk.backbones.backbone import Backbone
from rmatk.data.photos import Dataset
from rmatk.deployment.golden_pictures import GOLDEN_IMAGES, photo_golden, rendered_golden
from rmatk.method.model import AdaptedClip, TowerName
from rmatk.run import RECORD, Run, restore
from rmatk_export.export_input import ExportSource
from rmatk_export.fold import attach
from rmatk_export.int8.search import CalibrationPhotos
from rmatk_export.readers.open_clip import read_image_tower, read_text_tower
from rmatk_export.tokenizer import ExportedTokenizer, export_tokenizer
from rmatk_export.weights import Adapter, ImageStem, Linear, TextStem, Tower
from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision, ModelInfo, Precision
from rmatk_runtime.errors import DataError
from rmatk_runtime.files import path_from_text, sha256_file
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.pictures.preprocess import PreprocessSpec, preprocess

CALIBRATION_IMAGES = 128  # int8 ranges settle well before that many
JUDGING_IMAGES = 512  # each of them is embedded by every graph that the search for int8 tries


def export_source(
    run: Run,
    backbone: Backbone,
    *,
    data: Path | None = None,
    golden: int | Literal["rendered"] = GOLDEN_IMAGES,
    ship: bool = True,
    precisions: tuple[Precision, ...] = ("fp32",),
    pixels: bool = False,
) -> ExportSource:
    """Gather everything that a bundle is made of.

    Args:
        run: a verified run.
        backbone: the backbone it was trained on.
        data: where its training photos lie now; None takes the place recorded in the run.
        golden: how many training photos make the golden set, at least one per class; or ``rendered``: as many
            pictures that rmatk draws, for which no photo is read.
        ship: whether the bundle contains these pictures.
        precisions: of the image encoder, the first is what a device runs by default.
        pixels: whether each also comes with its normalisation inside.

    Raises:
        RunError: another backbone.
        DataError: the training photos are needed, and are not there any more.
        ExportError: a tower that the fold does not cover, or a tokenizer that cannot be exported.
    """
    model = restore(run, backbone)
    record = run.record
    templates = record.config.templates
    names = record.class_names
    classes = ClassMatrix(names, model.class_embeddings(names, templates).cpu().numpy())
    if golden == "rendered":
        pictures = rendered_golden(model, classes)
    else:
        training = _photos(run, data, record.train_files, record.train_labels)
        pictures = photo_golden(model, training, classes, golden)
    tokens = model.tokens(names, templates).cpu().numpy()
    image, text = adapted_towers(model, record.config.scale)
    return ExportSource(
        image=image,
        text=text,
        preprocess=model.backbone.preprocess,
        classes=classes,
        class_tokens=tokens.reshape(len(names), len(templates), -1),
        templates=templates,
        tokenizer=_tokenizer(backbone),
        decision=Decision(
            logit_scale=model.logit_scale,
            temperature=record.calibration.temperature,
            reject_threshold=record.calibration.reject_threshold,
        ),
        model=ModelInfo(
            name=backbone.name,
            pretrained=backbone.pretrained,
            backbone_digest=backbone.digest,
            embed_dim=classes.embeddings.shape[1],
        ),
        golden=pictures,
        ship_golden=ship,
        precisions=precisions,
        pixels=pixels,
        calibration=_calibration(run, data, model.backbone.preprocess) if "int8" in precisions else None,
        checkpoint=run.adapter,
        run_digest=run_digest(run),
        adapter_digest=record.adapter_sha256,
        versions=record.versions,
    )


def _tokenizer(backbone: Backbone) -> ExportedTokenizer:
    if backbone.tokenizer_json is not None:
        return ExportedTokenizer(backbone.tokenizer_json, cleaning="none")
    return export_tokenizer(backbone.tokenize)


def adapted_towers(model: AdaptedClip, scale: float) -> tuple[Tower[ImageStem], Tower[TextStem]]:
    """The image and text tower as plain arrays, the adaptation branches beside their blocks.

    Raises:
        ExportError: a tower that the fold does not cover.
    """
    clip = model.backbone.model
    image = attach(read_image_tower(clip), _adapters(model, "image", scale))
    text = attach(read_text_tower(clip), _adapters(model, "text", scale))
    return image, text


def run_digest(run: Run) -> str:
    """Hex SHA-256 of the run's record, which itself holds the digests of adapter and backbone."""
    return sha256_file(run.path / RECORD)


def _adapters(model: AdaptedClip, tower: TowerName, scale: float) -> dict[int, Adapter]:
    """The adaptation branches of a tower; the reconstruction branches are left behind here."""
    return {
        index: Adapter(
            down=Linear(arrays["down_weight"], arrays["down_bias"]),
            up=Linear(arrays["up_weight"], arrays["up_bias"]),
            scale=scale,
        )
        for index, arrays in model.adapter_arrays(tower).items()
    }


def _photos(run: Run, data: Path | None, names: Sequence[str], labels: Sequence[int]) -> Dataset:
    """Photos that the run recorded, where they lie now; ``labels`` are their class indices."""
    record = run.record
    root = path_from_text(Path(record.data)) if data is None else data
    hint = (
        "pass their new location: rmatk export RUN -o BUNDLE --data FOLDER; "
        "without int8, --golden rendered needs none"
    )
    if not root.is_dir():
        raise DataError(f"the training photos of {run.path} are not at {root} any more", hint)
    wanted = [path_from_text(root / name) for name in names]
    if missing := sorted(str(file) for file in wanted if not file.is_file()):
        raise DataError(f"{len(missing)} training photos are missing, first {missing[0]}", hint)
    pairs = list(zip(wanted, labels, strict=True))
    files = (tuple(file for file, of in pairs if of == label) for label in range(len(record.class_names)))
    return Dataset(root, record.class_names, tuple(files))


def _calibration(run: Run, data: Path | None, spec: PreprocessSpec) -> CalibrationPhotos:
    """Photos for int8: training shots for its ranges; validation shots, where there are any, to judge by."""
    record = run.record
    seen = _photos(run, data, record.train_files, record.train_labels).flat()
    judges, held_out = seen, bool(record.validation_files)
    if held_out:
        judges = _photos(run, data, record.validation_files, record.validation_labels).flat()
    images, _ = _some(seen, CALIBRATION_IMAGES, spec)
    shots, labels = _some(judges, JUDGING_IMAGES, spec)
    return CalibrationPhotos(images, shots, np.array(labels, dtype=np.int64), held_out)


def _some(
    photos: tuple[Sequence[Path], Sequence[int]], most: int, spec: PreprocessSpec
) -> tuple[Float32, Sequence[int]]:
    """``most`` photos at most, evenly chosen, preprocessed (N, 3, H, W), and their labels."""
    files, labels = photos
    step = -(-len(files) // most)
    return np.stack(
        [preprocess(load_image(file, Decoding(spec.stretch)), spec) for file in files[::step]]
    ), labels[::step]
