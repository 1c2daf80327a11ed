"""Writing a bundle: graphs, classes, tokenizer, golden set, the manifest last, and parity before it counts.

Everything is written into a folder beside the target, opened and checked there exactly as a device would,
and only then takes the target's name. What fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch
from tokenizers import Tokenizer

from rmatk_export.checks import checked
from rmatk_export.fold import fold
from rmatk_export.graph import OPSET, image_graph, text_graph
from rmatk_export.proof import Proof, prove
from rmatk_export.torch_folded import run_image
from rmatk_export.weights import Array, FoldedTower, ImageStem, TextStem, Tower
from rmatk_runtime.backends import open_backend
from rmatk_runtime.backends.onnx_runtime import create_session
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import ParityError
from rmatk_runtime.files import replacing_folder, sha256_file, write_atomic
from rmatk_runtime.golden import GoldenSet, encode_golden
from rmatk_runtime.labels import ClassMatrix, encode_classes
from rmatk_runtime.manifest import (
    MANIFEST,
    Decision,
    FileEntry,
    Golden,
    Graph,
    Labels,
    Manifest,
    ModelInfo,
    Precision,
    Provenance,
    TextEncoder,
    encode_manifest,
)
from rmatk_runtime.parity import TOLERANCES, StageResult, check_golden, compare_embeddings
from rmatk_runtime.preprocess import PreprocessSpec, preprocess, resize

IMAGE_FILES: dict[Precision, str] = {"fp32": "image_encoder.onnx", "fp16": "image_encoder.fp16.onnx"}
PIXEL_FILES: dict[Precision, str] = {
    "fp32": "image_encoder.pixels.onnx",
    "fp16": "image_encoder.pixels.fp16.onnx",
}
TEXT_FILE, TOKENIZER_FILE = "text_encoder.onnx", "tokenizer.json"
CLASSES_FILE, GOLDEN_FILE, REPORT_FILE = "classes.npz", "golden.npz", "report.json"


@dataclass(frozen=True)
class ExportSource:
    """All that a bundle is made of.

    ``image``, ``text``: the towers with their adapters; ``class_tokens`` (C, T, L) int64: every class'
    prompt under each of T templates, from which ``classes`` were embedded by PyTorch; ``tokenizer``: the
    Hugging Face tokenizers JSON that gives those ids; ``golden`` with PyTorch's embeddings; ``ship_golden``:
    whether its pictures travel in the bundle; ``checkpoint``: every adapter tensor as trained, by name, both
    branches; ``precisions`` of the image encoder, the first being what a device runs unless told otherwise;
    ``pixels``: whether each also comes with its normalisation inside.
    """

    image: Tower[ImageStem]
    text: Tower[TextStem]
    preprocess: PreprocessSpec
    classes: ClassMatrix
    class_tokens: npt.NDArray[np.int64]
    templates: tuple[str, ...]
    tokenizer: str
    decision: Decision
    model: ModelInfo
    golden: GoldenSet
    ship_golden: bool
    checkpoint: Mapping[str, Array]
    run_digest: str
    adapter_digest: str
    versions: dict[str, str]
    precisions: tuple[Precision, ...] = ("fp32",)
    pixels: bool = False


@dataclass(frozen=True)
class ExportReport:
    """What was written: parity stages, file sizes in bytes, and where every trained tensor went."""

    stages: tuple[StageResult, ...]
    sizes: dict[str, int]
    proof: Proof


def write_bundle(source: ExportSource, out: Path) -> ExportReport:
    """Write, verify and only then publish a bundle at ``out``.

    Raises:
        ExportError: a graph that cannot be right.
        ParityError: a graph that ONNX Runtime does not run as PyTorch ran the model; nothing is left.
        StorageError: ``out`` is taken by something else, or the disk is full.
    """
    with replacing_folder(out, marker=MANIFEST) as folder:
        image = fold(source.image)
        graphs = _write_graphs(source, image, folder)
        write_atomic(folder / TOKENIZER_FILE, source.tokenizer.encode())
        write_atomic(folder / CLASSES_FILE, encode_classes(source.classes))
        write_atomic(folder / GOLDEN_FILE, encode_golden(source.golden))
        write_atomic(folder / MANIFEST, encode_manifest(_manifest(source, folder)))
        stages = tuple(_gate(Bundle.open(folder), source, image, out))
        proof = prove(source.checkpoint, graphs, _adapter_scale(source.image))
        if not source.ship_golden:
            (folder / GOLDEN_FILE).unlink()
        report = msgspec.json.encode({"stages": stages, "proof": proof})
        write_atomic(folder / REPORT_FILE, msgspec.json.format(report, indent=2))
        write_atomic(folder / MANIFEST, encode_manifest(_manifest(source, folder)))
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return ExportReport(stages, sizes, proof)


def _write_graphs(
    source: ExportSource, image: FoldedTower[ImageStem], folder: Path
) -> dict[str, onnx.ModelProto]:
    """Write every graph; returns the float32 ones, image and text, by file name."""
    text = fold(source.text)
    full = checked(image_graph(image), image)
    text_model = checked(text_graph(text), text)
    for precision in source.precisions:
        half = precision == "fp16"
        model = checked(image_graph(image, half=True), image) if half else full
        _write_graph(folder / IMAGE_FILES[precision], model)
        if source.pixels:
            model = image_graph(image, half=half, pixels=source.preprocess)
            _write_graph(folder / PIXEL_FILES[precision], checked(model, image))
    _write_graph(folder / TEXT_FILE, text_model)
    return {IMAGE_FILES["fp32"]: full, TEXT_FILE: text_model}


def _adapter_scale(tower: Tower[ImageStem]) -> float:
    """s, one for all adapters of a run."""
    return next(block.adapter.scale for block in tower.blocks if block.adapter is not None)


def _write_graph(path: Path, model: onnx.ModelProto) -> None:
    write_atomic(path, model.SerializeToString(deterministic=True))


def _manifest(source: ExportSource, folder: Path) -> Manifest:
    files = {
        path.name: FileEntry(size=path.stat().st_size, sha256=sha256_file(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    golden = None
    if GOLDEN_FILE in files:
        golden = Golden(file=GOLDEN_FILE, images=len(source.golden.images), source="photos")
    return Manifest(
        model=source.model,
        preprocess=source.preprocess,
        graphs=_graphs(source),
        text=TextEncoder(
            file=TEXT_FILE, tokenizer=TOKENIZER_FILE, context_length=len(source.text.stem.positions)
        ),
        labels=Labels(file=CLASSES_FILE, templates=source.templates),
        decision=source.decision,
        golden=golden,
        tolerances=TOLERANCES,
        provenance=Provenance(
            run_digest=source.run_digest,
            adapter_digest=source.adapter_digest,
            graph_digests={name: entry.sha256 for name, entry in files.items() if name.endswith(".onnx")},
            versions={**source.versions, "onnx": onnx.__version__},
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ),
        files=files,
    )


def _graphs(source: ExportSource) -> tuple[Graph, ...]:
    images = [Graph(precision=p, file=IMAGE_FILES[p], opset=OPSET) for p in source.precisions]
    pixels = [
        Graph(precision=p, file=PIXEL_FILES[p], input="pixels", opset=OPSET)
        for p in (source.precisions if source.pixels else ())
    ]
    return (*images, *pixels)


def _gate(
    bundle: Bundle, source: ExportSource, image: FoldedTower[ImageStem], out: Path
) -> list[StageResult]:
    """Parity of everything just written; the first bad stage is named and the bundle refused."""
    stages = [_check_fold(source, image)]
    for precision in source.precisions:
        with open_backend(bundle, "cpu", precision=precision) as backend:
            preprocessing, engine = check_golden(bundle, backend, precision)
        stages += [engine] if preprocessing in stages else [preprocessing, engine]
    stages += [
        _check_pixels(bundle, source, graph) for graph in bundle.manifest.graphs if graph.input == "pixels"
    ]
    stages += [_check_tokenizer(bundle, source), _check_text(bundle, source)]
    for stage in stages:
        if not stage:
            raise ParityError(
                f"{out} was not written: the stage '{stage.stage}' {stage.reason}",
                "rmatk doctor shows the versions in use; other versions of onnxruntime may compute rightly",
            )
    return stages


def _check_fold(source: ExportSource, image: FoldedTower[ImageStem]) -> StageResult:
    """The folded arrays, run by PyTorch, must give what the trained model gave."""
    golden = source.golden
    tensors = np.stack([preprocess(picture, source.preprocess) for picture in golden.images])
    return compare_embeddings(
        "torch folded",
        golden.embeddings,
        run_image(image, torch.from_numpy(tensors)).numpy(),
        classes=source.classes,
        decision=source.decision,
        tolerance=TOLERANCES["fp32"],
        names=golden.names,
    )


def _check_pixels(bundle: Bundle, source: ExportSource, graph: Graph) -> StageResult:
    """A graph with the normalisation inside, on the golden pictures resized by the one preprocessing."""
    golden = source.golden
    session = create_session(bundle.file(graph.file), half=graph.precision == "fp16")
    pixels = np.stack([resize(picture, source.preprocess) for picture in golden.images])
    (embeddings,) = session.run(None, {"pixels": pixels})
    return compare_embeddings(
        f"onnxruntime cpu {graph.precision} on pixels",
        golden.embeddings,
        embeddings,
        classes=source.classes,
        decision=source.decision,
        tolerance=TOLERANCES[graph.precision],
        names=golden.names,
    )


def _check_tokenizer(bundle: Bundle, source: ExportSource) -> StageResult:
    """The exported tokenizer must give the ids that the class matrix was embedded from."""
    tokenizer = Tokenizer.from_file(str(bundle.file(TOKENIZER_FILE)))
    prompts = [t.replace("{}", name) for name in source.classes.names for t in source.templates]
    ids = source.class_tokens.reshape(len(prompts), -1)
    wrong = [
        prompt
        for prompt, expected, found in zip(prompts, ids, tokenizer.encode_batch(prompts), strict=True)
        if np.trim_zeros(np.array(found.ids), "b").tolist() != np.trim_zeros(expected, "b").tolist()
    ]
    reason = f"gives other ids for {len(wrong)} prompts, first {wrong[0]!r}" if wrong else None
    return StageResult(
        stage="tokenizer", images=len(prompts), passed=not wrong, reason=reason, tolerance=None
    )


def _check_text(bundle: Bundle, source: ExportSource) -> StageResult:
    """The exported text encoder must give the class matrix that PyTorch gave."""
    classes, templates, length = source.class_tokens.shape
    session = create_session(bundle.file(TEXT_FILE))
    (prompts,) = session.run(None, {"tokens": source.class_tokens.reshape(-1, length)})
    means = prompts.reshape(classes, templates, -1).mean(axis=1)
    embeddings = means / np.linalg.norm(means, axis=1, keepdims=True)
    return compare_embeddings(
        "text encoder fp32",
        source.classes.embeddings,
        embeddings.astype(np.float32),
        classes=source.classes,
        decision=source.decision,
        tolerance=TOLERANCES["fp32"],
        names=source.classes.names,
    )
