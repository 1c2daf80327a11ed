"""int8 numbers for the products of the blocks: weights and steps, measured on the user's own photos.

Symmetric throughout, zero point 0, as TensorRT's explicit quantisation asks (its parser refuses others).
A weight has one step per output channel and 7 bits. x86 CPUs without VNNI add two products of 8 bits each in
16, which overflows in silence (onnxruntime #6004, #12088): embeddings were off by three times the error of
int8 itself. With 7 bits no sum can overflow, whatever engine or server runs the graph and however its
session is set, and the fast kernel stays in use.

Rounding wins back what the missing bit costs: a weight's error is made up for by those rounded after it
(GPTQ, Frantar et al., ICLR 2023). On validation shots of TrashNet that took rmatk-micro's embeddings from
1 - cosine of 1.4e-4 to 0.8e-4; with an eighth bit they had 0.9e-4.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from rmatk_export.storage import save_graph
from rmatk_export.weights import Array
from rmatk_runtime.backends.onnx_runtime import create_session, fetch
from rmatk_runtime.preprocess import Float32

WEIGHT_MAX, INPUT_MAX = 63, 127
_BATCH = 4
_ROWS = 1024  # tokens that a product is quantised on
_DAMPING = 0.01  # of the mean square of an input, so that few tokens do not decide on directions they lack
_STRIP = 128  # input channels whose errors reach the channels behind them in one product
_SHARES = np.linspace(1.0, 0.4, 13)  # steps that are tried, as shares of the one that clips nothing


@dataclass(frozen=True)
class Int8Product:
    """One product in int8: ``weight`` (K, N) int8, its ``weight_steps`` (N,) float32 and ``input_step``.

    A number is its int8 times the step.
    """

    weight: npt.NDArray[np.int8]
    weight_steps: Float32
    input_step: np.float32


def products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The products of blocks with a weight (``blocks.3.mlp_in.matmul``), not those of attention itself."""
    return [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name.startswith("blocks.") and node.name.endswith(".matmul")
    ]


def calibrate(model: onnx.ModelProto, images: Float32) -> dict[str, Int8Product]:
    """Every product of the blocks in int8, by its node's name.

    Args:
        model: a float32 image graph.
        images: (N, 3, H, W) float32 normalised.
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    inputs = _Inputs(model, images)
    return {
        node.name: _int8_product(numpy_helper.to_array(weights[node.input[1]]), *inputs.of(node))
        for node in products(model)
    }


def _int8_product(weight: Float32, rows: Float32, largest: float) -> Int8Product:
    """``weight`` (K, N), ``rows`` (R, K) of the input, and its ``largest`` absolute value.

    The input's step is the one with the least squared error of the product: clipping a rare large value may
    cost less than the coarser step that it asks for.
    """
    steps = np.abs(weight).max(axis=0) / WEIGHT_MAX
    steps[steps == 0.0] = 1.0
    rounded, some = np.rint(weight / steps), rows[::2]
    exact = some @ weight

    def error(step: float) -> float:
        return float(np.square(_held(some, step) @ rounded * (steps * step) - exact).mean())

    tried = _SHARES * (max(largest, 1e-12) / INPUT_MAX)
    best = min(tried.astype(np.float32), key=error)
    int8 = _compensated(weight, steps, _held(rows, best) * best)
    return Int8Product(int8, steps.astype(np.float32), best)


def _held(rows: Float32, step: float) -> Float32:
    """Inputs in int8, as whole float32 numbers."""
    held: Float32 = np.clip(np.rint(rows / step), -INPUT_MAX, INPUT_MAX)
    return held


def _compensated(weight: Float32, steps: Float32, rows: Float32) -> npt.NDArray[np.int8]:
    """Round (K, N) one input channel after another, so that ``rows`` (R, K) times the result stay in place.

    A channel's error moves on to the channels not rounded yet, in the proportion in which their inputs have
    gone together with its own: GPTQ's update, with H = X^T X and the upper Cholesky factor of its inverse.
    """
    x = rows.astype(np.float64)
    moments = x.T @ x / len(x)
    moments[np.diag_indices_from(moments)] += _DAMPING * max(float(np.diag(moments).mean()), 1e-12)
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T
    left, result = weight.astype(np.float64), np.empty(weight.shape, dtype=np.int8)
    for start in range(0, len(left), _STRIP):
        end = min(start + _STRIP, len(left))
        errors = np.empty((end - start, left.shape[1]))
        for k in range(start, end):
            result[k] = np.clip(np.rint(left[k] / steps), -WEIGHT_MAX, WEIGHT_MAX)
            errors[k - start] = (left[k] - result[k] * steps) / factor[k, k]
            left[k + 1 : end] -= np.outer(factor[k, k + 1 : end], errors[k - start])
        left[end:] -= factor[start:end, end:].T @ errors
    return result


class _Inputs:
    """What the products of a graph are given on some images: a sample of tokens, and the largest value."""

    def __init__(self, model: onnx.ModelProto, images: Float32) -> None:
        names = sorted({node.input[0] for node in products(model)})
        share = -(-_ROWS // len(images))
        rng = np.random.default_rng(0)
        rows: dict[str, list[Array]] = {name: [] for name in names}
        self._largest = dict.fromkeys(names, 0.0)
        for values in _values(model, names, images):
            for name, value in values.items():
                self._largest[name] = max(self._largest[name], float(np.abs(value).max()))
                for tokens in value:  # (L, K) of one image
                    rows[name].append(tokens[rng.permutation(len(tokens))[:share]])
        self._rows = {name: np.concatenate(parts) for name, parts in rows.items()}

    def of(self, product: onnx.NodeProto) -> tuple[Float32, float]:
        """(R, K) rows of a product's input, and its largest absolute value."""
        name = product.input[0]
        return self._rows[name], self._largest[name]


def _values(model: onnx.ModelProto, names: list[str], images: Float32) -> Iterator[Mapping[str, Array]]:
    """Inner values of a graph by name, for some images at a time."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with tempfile.TemporaryDirectory(prefix="rmatk-int8-") as folder:
        path = Path(folder) / "graph.onnx"
        save_graph(probe, path)
        session = create_session(path)
    for start in range(0, len(images), _BATCH):
        yield dict(zip(names, fetch(session, images[start : start + _BATCH], names), strict=True))
