"""A bundle as a model repository for Triton Inference Server.

    REPOSITORY/
        NAME_image_encoder/   config.pbtxt  1/model.onnx (or 1/model.plan)     pixels -> embeddings
        NAME_classifier/      config.pbtxt  1/model.onnx  labels.txt           embeddings -> probabilities
        NAME/                 config.pbtxt  1/  labels.txt      the ensemble:  pixels -> probabilities
        rmatk-triton.json     what it was made from, and how it was checked

The class matrix is a graph of its own, a few hundred kilobytes, so that ONNX Runtime's backend alone serves
everything, other labels need no other encoder, and an encoder may be a TensorRT plan. Labels come by Triton's
classification extension: ``class_count`` of a requested output gives "probability:index:label" (server
docs/protocol/extension_classification.md).
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rmatk_export.graph.ends import classifier_graph, with_pixels
from rmatk_export.graph.storage import load_graph, save_graph
from rmatk_export.serving.check import ServedGraph, check_served
from rmatk_export.serving.record import Served, describe, keep, label_file, marker
from rmatk_runtime import __version__
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Graph, Precision
from rmatk_runtime.errors import BackendError, ExportError, command
from rmatk_runtime.files import replacing_folder, write_atomic
from rmatk_runtime.parity.stage import StageKind, StageResult
from rmatk_runtime.parity.walk import Candidate, EncoderCandidate
from rmatk_runtime.tensorrt.backend import TensorRtBackend
from rmatk_runtime.tensorrt.key import BatchProfile
from rmatk_runtime.tensorrt.store import BuiltEngine, find_engine

TritonBackend = Literal["onnxruntime", "tensorrt"]
VERSION = "1"
DEFAULT_BATCH = BatchProfile(1, 1, 8)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TritonOptions:
    """``name`` of the ensemble and prefix of its parts; ``backend`` of the encoder; ``batch``: the largest
    batch, and the one preferred, where the encoder is not a plan with a profile of its own."""

    name: str
    backend: TritonBackend = "onnxruntime"
    batch: BatchProfile = DEFAULT_BATCH

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ExportError(
                f"{self.name!r} cannot be a model's name in Triton: letters, digits, - . _",
                "choose one: --name",
            )
        if self.backend == "onnxruntime":
            _check_batch(self.batch)


def _check_batch(batch: BatchProfile) -> None:
    if batch.min != 1:
        raise ExportError(
            f"Triton's batches begin at 1, the profile {batch} at {batch.min}",
            f"--batch 1:{batch.opt}:{batch.max}",
        )


def write_triton(
    bundle: Bundle, out: Path, options: TritonOptions, *, precision: Precision | None = None
) -> Served:
    """Write a model repository at ``out``, check it there, and only then give it its name.

    Args:
        bundle: a verified bundle.
        out: the repository's folder.
        options: names, backend and batches.
        precision: of the graph; None for the bundle's first.

    Raises:
        BundleError: no graph of that precision, or for an engine none on pixels.
        BackendError: no engine on pixels fits this machine, or ONNX Runtime does not run a graph.
        ExportError: a label that a label file cannot hold, a batch profile that Triton cannot use.
        ParityError: the repository does not answer as the bundle does; nothing is left.
        StorageError: ``out`` is taken by something else, or the disk is full.
    """
    graph = bundle.graph(precision)
    engine = _engine(bundle, graph, options) if options.backend == "tensorrt" else None
    batch = options.batch if engine is None else engine.key.batch
    _check_batch(batch)
    labels = label_file(bundle.classes().names, "\n")
    with replacing_folder(out, marker=marker("triton")) as folder:
        parts = _Parts(bundle, graph, options.name, batch)
        encoder, classifier, ensemble = (
            _model_folder(folder / name) for name in (parts.encoder, parts.classifier, parts.name)
        )
        if engine is None:
            pixels = with_pixels(load_graph(bundle.file(graph.file)), bundle.manifest.preprocess)
            save_graph(pixels, encoder / VERSION / "model.onnx")
        else:
            write_atomic(encoder / VERSION / "model.plan", engine.read())
        answers = classifier_graph(bundle.classes(), bundle.manifest.decision)
        save_graph(answers, classifier / VERSION / "model.onnx")
        for part in (classifier, ensemble):
            write_atomic(part / "labels.txt", labels)
        configs = (parts.encoder_config(options.backend), parts.classifier_config(), parts.ensemble_config())
        for part, config in zip((encoder, classifier, ensemble), configs, strict=True):
            write_atomic(part / "config.pbtxt", config.encode())
        stages = _check(bundle, graph, encoder / VERSION, classifier / VERSION, engine)
        return keep(folder, describe("triton", bundle, graph, stages, backend=options.backend))


def _engine(bundle: Bundle, graph: Graph, options: TritonOptions) -> BuiltEngine:
    """The plan for Triton's TensorRT backend: on pixels, usable here, of TensorRT proper."""
    bundle.graph(graph.precision, "pixels")  # without it there is nothing to build an engine from
    engine = find_engine(bundle, precision=graph.precision, batch=options.batch.opt, kind="pixels")
    if engine.key.flavour != "tensorrt":
        raise BackendError(
            f"{engine.path.name} was built with TensorRT for RTX, whose plans Triton does not load",
            command("rmatk", "export", bundle.path, "--trt", "--pixels", "--flavour", "tensorrt"),
        )
    return engine


def _model_folder(path: Path) -> Path:
    (path / VERSION).mkdir(parents=True)
    return path


def _check(
    bundle: Bundle, graph: Graph, encoder: Path, classifier: Path, engine: BuiltEngine | None
) -> tuple[StageResult, ...]:
    """The written encoder on pixels, and the written classifier on the bundle's own embeddings."""
    name, precision = f"encoder {graph.precision}", graph.precision
    answers = ServedGraph(
        "classifier",
        StageKind.CLASSIFIER,
        precision,
        classifier / "model.onnx",
        lambda batch: batch.embeddings,
    )
    with nullcontext() if engine is None else TensorRtBackend.open(engine) as backend:
        encoded: Candidate
        if backend is None:
            path = encoder / "model.onnx"
            encoded = ServedGraph(name, StageKind.GRAPH, precision, path, lambda batch: batch.pixels)
        else:
            encoded = EncoderCandidate(name, precision, backend, "pixels", StageKind.ENGINE)
        return tuple(check_served(bundle, graph, [encoded, answers]))


@dataclass(frozen=True)
class _Parts:
    """The three models' names and configurations (model_config.proto of triton-inference-server/common)."""

    bundle: Bundle
    graph: Graph
    name: str
    batch: BatchProfile

    @property
    def encoder(self) -> str:
        return f"{self.name}_image_encoder"

    @property
    def classifier(self) -> str:
        return f"{self.name}_classifier"

    def encoder_config(self, backend: TritonBackend) -> str:
        # ONNX Runtime's layout optimiser crashes the server on float16 vision transformers on a CPU; level 1
        # leaves it out, and with it nothing that a tower gains from.
        level = "optimization { graph { level: 1 } }\n" if backend == "onnxruntime" else ""
        file = "model.onnx" if backend == "onnxruntime" else "model.plan"
        return (
            f"{self._head(self.encoder, backend, file)}"
            f"{_tensor('input', 'pixels', 'TYPE_UINT8', self._pixels)}"
            f"{_tensor('output', 'embeddings', 'TYPE_FP32', (self._width,))}"
            f"{self._batching()}{level}"
        )

    def classifier_config(self) -> str:
        return (
            f"{self._head(self.classifier, 'onnxruntime', 'model.onnx')}"
            f"{_tensor('input', 'embeddings', 'TYPE_FP32', (self._width,))}"
            f"{_tensor('output', 'probabilities', 'TYPE_FP32', (self._labels,), labels='labels.txt')}"
            f"{self._batching()}{self._parameters()}"
        )

    def ensemble_config(self) -> str:
        return (
            f"{self._head(self.name, 'ensemble')}"
            f"{_tensor('input', 'pixels', 'TYPE_UINT8', self._pixels)}"
            f"{_tensor('output', 'probabilities', 'TYPE_FP32', (self._labels,), labels='labels.txt')}"
            "ensemble_scheduling {\n"
            f"{_step(self.encoder, 'pixels', 'embeddings')}"
            f"{_step(self.classifier, 'embeddings', 'probabilities')}"
            "}\n"
            f"{self._parameters()}"
        )

    @property
    def _pixels(self) -> tuple[int, ...]:
        spec = self.bundle.manifest.preprocess
        return spec.height, spec.width, 3

    @property
    def _width(self) -> int:
        return self.bundle.manifest.model.embed_dim

    @property
    def _labels(self) -> int:
        return len(self.bundle.classes().names)

    def _head(self, name: str, backend: str, file: str | None = None) -> str:
        run = self.bundle.manifest.provenance.run_digest[:12]
        kind = 'platform: "ensemble"' if file is None else f'backend: "{backend}"'
        default = "" if file is None else f'default_model_filename: "{file}"\n'
        return (
            f"# Written by rmatk {__version__} from the {self.graph.precision} graph of run {run}.\n"
            "# After a change of labels write it again: rmatk export BUNDLE --triton REPOSITORY\n"
            f'name: "{name}"\n{kind}\n{default}max_batch_size: {self.batch.max}\n'
        )

    def _batching(self) -> str:
        """Requests that wait are put together; one that finds the model idle does not wait for others."""
        sizes = sorted({self.batch.opt, self.batch.max} - {1})
        preferred = f" preferred_batch_size: [ {', '.join(map(str, sizes))} ]" if sizes else ""
        return "" if self.batch.max == 1 else f"dynamic_batching {{{preferred} }}\n"

    def _parameters(self) -> str:
        """What a client needs to reject as the runtime does, readable through the model's configuration."""
        threshold = self.bundle.manifest.decision.reject_threshold
        if threshold is None:
            return ""
        return f'parameters {{ key: "reject_threshold" value {{ string_value: "{threshold!r}" }} }}\n'


def _tensor(side: str, name: str, kind: str, shape: tuple[int, ...], *, labels: str | None = None) -> str:
    file = f' label_filename: "{labels}"' if labels else ""
    dims = ", ".join(map(str, shape))
    return f'{side} {{ name: "{name}" data_type: {kind} dims: [ {dims} ]{file} }}\n'


def _step(model: str, source: str, target: str) -> str:
    return (
        f'  step {{ model_name: "{model}" model_version: -1'
        f' input_map {{ key: "{source}" value: "{source}" }}'
        f' output_map {{ key: "{target}" value: "{target}" }} }}\n'
    )
