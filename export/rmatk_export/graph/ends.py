"""What is added before and after an image graph: normalisation, and the class matrix.

Engines, DeepStream and Triton have no preprocessing that ends in our ``images``, so a graph for them begins
with the spec's normalisation, the operations of ``rmatk_runtime.pictures.preprocess.normalise`` in its order.
A server that cannot run Python answers by the class matrix as a graph:
``rmatk_runtime.bundle.label_head`` in float32.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from rmatk_export.graph.encoder import written
from rmatk_export.graph.storage import with_graph
from rmatk_export.graph.writer import Writer
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.pictures.preprocess import PreprocessSpec

Layout = Literal["uint8", "planes"]


def with_pixels(model: onnx.ModelProto, spec: PreprocessSpec, *, layout: Layout = "uint8") -> onnx.ModelProto:
    """An image graph that takes ``pixels``, RGB from 0 to 255 at the network's size, instead of ``images``.

    Args:
        model: an image graph on ``images`` (N, 3, H, W) float32.
        spec: whose normalisation is put in front.
        layout: ``uint8``: (N, H, W, 3) uint8; ``planes``: (N, 3, H, W) float32, as DeepStream gives them.
    """
    w = Writer()
    planes = layout == "planes"
    shape = ("N", 3, spec.height, spec.width) if planes else ("N", spec.height, spec.width, 3)
    x = "pixels" if planes else w.op("Cast", "pixels.float", "pixels", to=TensorProto.FLOAT)
    for op, name, value in (("Div", "scale", 255.0), ("Sub", "mean", spec.mean), ("Div", "std", spec.std)):
        numbers = np.array(value, dtype=np.float32)
        constant = w.weight(f"pixels.{name}", numbers.reshape(-1, 1, 1) if planes else numbers)
        x = w.op(op, "images" if planes and name == "std" else f"pixels.{name}d", x, constant)
    if not planes:
        w.op("Transpose", "images", x, perm=[0, 3, 1, 2])
    pixels = helper.make_tensor_value_info(
        "pixels", TensorProto.FLOAT if planes else TensorProto.UINT8, shape
    )
    return _joined(w, model, [pixels], list(model.graph.output), before=True)


def with_classes(model: onnx.ModelProto, classes: ClassMatrix, decision: Decision) -> onnx.ModelProto:
    """An image graph that gives ``probabilities`` (N, C) float32 instead of ``embeddings``."""
    w = Writer()
    return _joined(w, model, list(model.graph.input), [_classify(w, classes, decision)], before=False)


def classifier_graph(classes: ClassMatrix, decision: Decision) -> onnx.ModelProto:
    """The class matrix alone: ``embeddings`` (N, D) float32 -> ``probabilities`` (N, C) float32."""
    w = Writer()
    probabilities = _classify(w, classes, decision)
    width = classes.embeddings.shape[1]
    embeddings = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", width])
    model = written(w, "rmatk_classifier", embeddings, probabilities)
    onnx.checker.check_model(model, full_check=True)
    return model


def _classify(w: Writer, classes: ClassMatrix, decision: Decision) -> onnx.ValueInfoProto:
    """softmax(logit_scale / temperature * embeddings @ classes^T); cosines first, so that they stay small."""
    matrix = w.weight("classes.weight", np.ascontiguousarray(classes.embeddings.T, dtype=np.float32))
    cosines = w.op("MatMul", "cosines", "embeddings", matrix)
    scale = w.weight("classes.scale", np.array(decision.logit_scale / decision.temperature, dtype=np.float32))
    w.op("Softmax", "probabilities", w.op("Mul", "logits", cosines, scale), axis=-1)
    return helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(classes.names)])


def _joined(
    w: Writer,
    model: onnx.ModelProto,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    *,
    before: bool,
) -> onnx.ModelProto:
    """``model`` with the nodes and weights of ``w`` before or behind its own."""
    own = list(model.graph.node)
    graph = helper.make_graph(
        [*w.nodes, *own] if before else [*own, *w.nodes],
        model.graph.name,
        inputs,
        outputs,
        [*model.graph.initializer, *w.weights.values()],
    )
    return with_graph(model, graph)
