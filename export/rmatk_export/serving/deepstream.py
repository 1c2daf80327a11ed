"""A bundle as a classifier for DeepStream's nvinfer.

    FOLDER/
        config_infer.txt         nvinfer's configuration
        classifier.onnx          pixels (N, 3, H, W) float32, RGB, 0 to 255 -> probabilities (N, C) float32
        labels.txt               one line, labels parted by semicolons
        rmatk-deepstream.json    what it was made from, and how it was checked

Why this graph (nvinfer's sources, which come with DeepStream): its preprocessing writes float32 into the
input's buffer whatever type the input has, so a uint8 buffer would be overrun. It has one scale for all
channels, so standard deviations per channel must be inside the graph. Its classifier parser reads
probabilities and takes every output for an attribute of its own, so class matrix and softmax are inside too,
and their result is the only output. The folder is replaced as a whole, and with it the engine that nvinfer
keeps beside the graph: an engine of yesterday's labels cannot stay.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rmatk_export.graph.ends import with_classes, with_pixels
from rmatk_export.graph.storage import load_graph, save_graph
from rmatk_export.serving.check import ServedGraph, check_served
from rmatk_export.serving.record import Served, describe, keep, label_file, marker
from rmatk_runtime import __version__
from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Graph, Precision
from rmatk_runtime.files import replacing_folder, write_atomic
from rmatk_runtime.parity.reference import Batch
from rmatk_runtime.parity.stage import StageKind, StageResult

CONFIG, GRAPH, LABELS = "config_infer.txt", "classifier.onnx", "labels.txt"


def write_deepstream(
    bundle: Bundle, out: Path, *, batch: int = 1, precision: Precision | None = None
) -> Served:
    """Write configuration, graph and labels at ``out``, checked before the folder takes its name.

    Args:
        bundle: a verified bundle.
        out: the folder.
        batch: nvinfer's ``batch-size``: how many frames, one per camera mostly, it puts together.
        precision: of the graph; None for the bundle's first.

    Raises:
        BackendError: ONNX Runtime does not run a graph.
        ExportError: a label that a label file cannot hold.
        ParityError: the graph does not answer as the bundle does; nothing is left.
        StorageError: ``out`` is taken by something else, or the disk is full.
    """
    graph = bundle.graph(precision)
    classes, manifest = bundle.classes(), bundle.manifest
    labels = label_file(classes.names, ";")
    with replacing_folder(out, marker=marker("deepstream")) as folder:
        pixels = with_pixels(load_graph(bundle.file(graph.file)), manifest.preprocess, layout="planes")
        save_graph(with_classes(pixels, classes, manifest.decision), folder / GRAPH)
        write_atomic(folder / LABELS, labels)
        write_atomic(folder / CONFIG, configuration(bundle, graph, batch).encode())
        return keep(folder, describe("deepstream", bundle, graph, _check(bundle, graph, folder)))


def _check(bundle: Bundle, graph: Graph, folder: Path) -> list[StageResult]:
    """The joined graph on the planes that nvinfer would give it if it resized as rmatk does."""

    def planes(batch: Batch) -> Float32:
        return np.ascontiguousarray(batch.pixels.transpose(0, 3, 1, 2), dtype=np.float32)

    name, precision = f"joined {graph.precision}", graph.precision
    joined = ServedGraph(name, StageKind.CLASSIFIER, precision, folder / GRAPH, planes)
    return check_served(bundle, graph, [joined])


def configuration(bundle: Bundle, graph: Graph, batch: int) -> str:
    """nvinfer's key file for one graph of a bundle."""
    manifest = bundle.manifest
    spec = manifest.preprocess
    letterbox = spec.resize_mode == "longest"
    keys: dict[str, object] = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,
        "network-type": 1,
        "onnx-file": GRAPH,
        # The name nvinfer itself gives, so that the second start finds what the first has built.
        "model-engine-file": f"{GRAPH}_b{batch}_gpu0_fp32.engine",
        "labelfile-path": LABELS,
        "batch-size": batch,
        # Precision is in the graph: no type is the builder's to choose. A DeepStream that does not know
        # strongly-typed says so and goes on.
        "network-mode": 0,
        "strongly-typed": 1,
        "infer-dims": f"3;{spec.height};{spec.width}",
        "network-input-order": 0,
        "model-color-format": 0,
        "net-scale-factor": 1.0,
        "maintain-aspect-ratio": int(letterbox),
        "symmetric-padding": int(letterbox),
        "scaling-filter": 1,
        "output-blob-names": "probabilities",
        "classifier-threshold": manifest.decision.reject_threshold or 0.0,
    }
    run = manifest.provenance.run_digest[:12]
    return "\n".join(
        [
            f"# Written by rmatk {__version__} from the {graph.precision} graph of run {run}.",
            "# After a change of labels write it again: rmatk export BUNDLE --deepstream FOLDER",
            "[property]",
            *(f"{key}={value}" for key, value in keys.items()),
            "",
        ]
    )
