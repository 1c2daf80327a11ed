"""Writing a bundle: graphs, classes, tokenizer, golden set, the manifest last, and parity before it counts.

Everything is written into a folder beside the target, opened and checked there exactly as a device would,
and only then takes the target's name. What fails leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

import msgspec
import onnx

from rmatk_export.export_input import ExportSource
from rmatk_export.fold import fold
from rmatk_export.graph.checks import checked
from rmatk_export.graph.encoder import OPSET, image_graph, text_graph
from rmatk_export.graph.ends import with_pixels
from rmatk_export.graph.storage import save_graph
from rmatk_export.graph.writer import float32_products
from rmatk_export.int8.search import Quantisation, quantise_within_budget
from rmatk_export.parity.folded import FoldedCandidate
from rmatk_export.parity.text import check_text
from rmatk_export.proof import Proof, prove
from rmatk_export.weights import FoldedTower, ImageStem, Tower
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.golden import encode_golden
from rmatk_runtime.bundle.labels import encode_classes
from rmatk_runtime.bundle.manifest import (
    MANIFEST,
    FileEntry,
    Golden,
    Graph,
    Labels,
    Manifest,
    Precision,
    Provenance,
    TextEncoder,
    data_file,
    encode_manifest,
)
from rmatk_runtime.errors import ExportError
from rmatk_runtime.files import replacing_folder, sha256_file, write_atomic
from rmatk_runtime.parity.compare import TOLERANCES
from rmatk_runtime.parity.stage import StageResult, require_passed
from rmatk_runtime.parity.walk import check_golden
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.selection import open_candidates

IMAGE_FILES: dict[Precision, str] = {
    "fp32": "image_encoder.onnx",
    "fp16": "image_encoder.fp16.onnx",
    "int8": "image_encoder.int8.onnx",
}
TEXT_FILE, TOKENIZER_FILE = "text_encoder.onnx", "tokenizer.json"
CLASSES_FILE, GOLDEN_FILE, REPORT_FILE = "classes.npz", "golden.npz", "report.json"


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written; ``report.json`` in the bundle, but for the sizes.

    ``stages`` of parity; ``proof``: where every trained tensor went; ``float32_products``: products of the
    fp16 graph that stayed float32, because a weight is beyond float16's range; ``quantisation``: what was
    chosen for int8, if asked for; ``sizes`` of the files in bytes.
    """

    stages: tuple[StageResult, ...]
    proof: Proof
    float32_products: tuple[str, ...]
    quantisation: Quantisation | None
    sizes: dict[str, int]


@dataclass(frozen=True)
class _Graphs:
    """The graphs of a bundle by file name; the float32 ones of image and text apart, for the proof."""

    files: dict[str, onnx.ModelProto]
    full: dict[str, onnx.ModelProto]
    quantisation: Quantisation | None


def write_bundle(source: ExportSource, out: Path, on_progress: OnProgress = no_progress) -> ExportReport:
    """Write, verify and only then publish a bundle at ``out``; ``on_progress`` reports the search for int8.

    Raises:
        ExportError: a graph that cannot be right, or int8 that costs too much accuracy.
        ParityError: a graph that ONNX Runtime does not run as PyTorch ran the model; nothing is left.
        StorageError: ``out`` is taken by something else, or the disk is full.
    """
    with replacing_folder(out, marker=MANIFEST) as folder:
        image = fold(source.image)
        graphs = _make_graphs(source, image, on_progress)
        for name, model in graphs.files.items():
            save_graph(model, folder / name)
        write_atomic(folder / TOKENIZER_FILE, source.tokenizer.json.encode())
        write_atomic(folder / CLASSES_FILE, encode_classes(source.classes))
        write_atomic(folder / GOLDEN_FILE, encode_golden(source.golden))
        write_atomic(folder / MANIFEST, encode_manifest(_manifest(source, folder)))
        stages = _check_parity(Bundle.open(folder), source, image, out)
        proof = prove(source.checkpoint, graphs.full, _adapter_scale(source.image), graphs.files)
        if not source.ship_golden:
            (folder / GOLDEN_FILE).unlink()
        half = graphs.files.get(IMAGE_FILES["fp16"])
        report = ExportReport(
            stages=stages,
            proof=proof,
            float32_products=() if half is None else float32_products(half),
            quantisation=graphs.quantisation,
            sizes={},
        )
        write_atomic(folder / REPORT_FILE, msgspec.json.format(msgspec.json.encode(report), indent=2))
        write_atomic(folder / MANIFEST, encode_manifest(_manifest(source, folder)))
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return msgspec.structs.replace(report, sizes=sizes)


def _make_graphs(source: ExportSource, image: FoldedTower[ImageStem], on_progress: OnProgress) -> _Graphs:
    """Every graph asked for, each checked against the arrays it was written from."""
    text = fold(source.text)
    full = {
        IMAGE_FILES["fp32"]: checked(image_graph(image), image),
        TEXT_FILE: checked(text_graph(text), text),
    }
    files, quantisation = {TEXT_FILE: full[TEXT_FILE]}, None
    for precision in source.precisions:
        model = full[IMAGE_FILES["fp32"]]
        if precision == "fp16":
            model = image_graph(image, half=True)
        elif precision == "int8":
            if source.calibration is None:
                raise ExportError("int8 needs photos to be calibrated on, and none were given")
            model, quantisation = quantise_within_budget(
                model, source.calibration, source.classes, on_progress
            )
        files[IMAGE_FILES[precision]] = checked(model, image, precision)
        if source.pixels:
            files[_pixel_file(precision)] = checked(with_pixels(model, source.preprocess), image, precision)
    return _Graphs(files, full, quantisation)


def _check_parity(
    bundle: Bundle, source: ExportSource, image: FoldedTower[ImageStem], out: Path
) -> tuple[StageResult, ...]:
    """Compare everything just written with the trained model, in the folder that is to become ``out``.

    Raises:
        ParityError: names the first stage that fails.
    """

    def explain(failed: StageResult) -> tuple[str, str]:
        return (
            f"{out} was not written: the stage '{failed.stage}' {failed.reason}",
            "rmatk doctor shows the versions in use; another version of onnxruntime may compute correctly",
        )

    with open_candidates(bundle, "cpu") as graphs:
        stages = check_golden(bundle, [FoldedCandidate(image), *graphs])
    return require_passed(chain(stages, check_text(bundle, source)), explain)


def _pixel_file(precision: Precision) -> str:
    return IMAGE_FILES[precision].replace("image_encoder", "image_encoder.pixels")


def _adapter_scale(tower: Tower[ImageStem]) -> float:
    """s, one for all adapters of a run."""
    return next(block.adapter.scale for block in tower.blocks if block.adapter is not None)


def _manifest(source: ExportSource, folder: Path) -> Manifest:
    files = {
        path.name: FileEntry(size=path.stat().st_size, sha256=sha256_file(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    golden = None
    if GOLDEN_FILE in files:
        golden = Golden(file=GOLDEN_FILE, images=len(source.golden.images), source=source.golden.source)
    graphs = [Graph(precision=p, file=IMAGE_FILES[p], opset=OPSET) for p in source.precisions]
    if source.pixels:
        graphs += [
            Graph(precision=p, file=_pixel_file(p), input="pixels", opset=OPSET) for p in source.precisions
        ]
    return Manifest(
        model=source.model,
        preprocess=source.preprocess,
        graphs=tuple(graphs),
        text=TextEncoder(
            file=TEXT_FILE,
            tokenizer=TOKENIZER_FILE,
            cleaning=source.tokenizer.cleaning,
            context_length=len(source.text.stem.positions),
        ),
        labels=Labels(file=CLASSES_FILE, templates=source.templates),
        decision=source.decision,
        golden=golden,
        tolerances=TOLERANCES,
        provenance=Provenance(
            run_digest=source.run_digest,
            adapter_digest=source.adapter_digest,
            graph_digests={
                name: entry.sha256
                for name, entry in files.items()
                if name.endswith((".onnx", data_file(".onnx")))
            },
            versions={**source.versions, "onnx": onnx.__version__},
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ),
        files=files,
    )
