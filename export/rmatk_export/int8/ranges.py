"""Collects the inputs of MatMuls on calibration images and computes their int8 parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from rmatk_export.graph.sessions import graph_session
from rmatk_export.int8.gptq import Int8Product, int8_product
from rmatk_runtime.arrays import Array, Float32
from rmatk_runtime.onnx_runtime.backend import fetch
from rmatk_runtime.progress import OnProgress, counted, no_progress

_BATCH = 4
_ROWS = 1024  # tokens that a product is quantised on


def products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The products of blocks with a weight (``blocks.3.mlp_in.matmul``), not those of attention itself."""
    return [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name.startswith("blocks.") and node.name.endswith(".matmul")
    ]


def calibrate(
    model: onnx.ModelProto, images: Float32, on_progress: OnProgress = no_progress
) -> dict[str, Int8Product]:
    """Every product of the blocks in int8, by its node's name.

    Args:
        model: a float32 image graph.
        images: (N, 3, H, W) float32 normalised.
        on_progress: called often.
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    inputs = _Inputs(model, images, on_progress)
    return {
        node.name: int8_product(numpy_helper.to_array(weights[node.input[1]]), *inputs.of(node))
        for node in counted("rounding products", products(model), on_progress)
    }


class _Inputs:
    """What the products of a graph are given on some images: a sample of tokens, and their range."""

    def __init__(self, model: onnx.ModelProto, images: Float32, on_progress: OnProgress) -> None:
        names = sorted({node.input[0] for node in products(model)})
        share = -(-_ROWS // len(images))
        rng = np.random.default_rng(0)
        rows: dict[str, list[Array]] = {name: [] for name in names}
        self._ranges = dict.fromkeys(names, (0.0, 0.0))
        for values in _values(model, names, images, on_progress):
            for name, value in values.items():
                low, high = self._ranges[name]
                self._ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
                for tokens in value:  # (L, K) of one image
                    rows[name].append(tokens[rng.permutation(len(tokens))[:share]])
        self._rows = {name: np.concatenate(parts) for name, parts in rows.items()}

    def of(self, product: onnx.NodeProto) -> tuple[Float32, float, float]:
        """(R, K) rows of a product's input, and the smallest and largest value, 0 included."""
        name = product.input[0]
        return self._rows[name], *self._ranges[name]


def _values(
    model: onnx.ModelProto, names: list[str], images: Float32, on_progress: OnProgress
) -> Iterator[Mapping[str, Array]]:
    """Inner values of a graph by name, for some images at a time."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = graph_session(probe)
    for start in counted("measuring ranges", range(0, len(images), _BATCH), on_progress):
        yield dict(zip(names, fetch(session, images[start : start + _BATCH], names), strict=True))
