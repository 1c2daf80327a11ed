"""Adds operators to an ONNX graph one by one, with names that say where they belong.

Precision is decided here, by the types of weights and by casts in the graph, so that one file means the same
to every engine. TensorRT 11 has no precision flags left, and before it CLIP in fp16 by flag lost most of its
accuracy (TensorRT #2709: F1 .84 -> .15). In a half graph the matrix products and what is between them are
float16; the residual stream, LayerNorm, softmax and the final norm stay float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rmatk_export.weights import Activation, Linear, Norm
from rmatk_runtime.arrays import Array
from rmatk_runtime.errors import ExportError

HALF_MAX = 65504.0  # the largest float16


class Writer:
    """Collects nodes and weights; every method adds one operator and returns its output's name.

    ``half``: products in float16, but for those with a weight beyond float16's range.
    """

    def __init__(self, *, half: bool = False) -> None:
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def low(self, x: str) -> str:
        """``x``, which is float32, in the precision of products."""
        return self.op("Cast", f"{x}.low", x, to=TensorProto.FLOAT16) if self.half else x

    def high(self, x: str) -> str:
        """``x``, which is in the precision of products, in float32."""
        return self.op("Cast", f"{x}.high", x, to=TensorProto.FLOAT) if self.half else x

    def compute(self, name: str, value: Array) -> str:
        """Store an array under ``name`` in the precision of products.

        Raises:
            ExportError: float16 cannot hold it.
        """
        if self.half and not _fits_half(value):
            raise ExportError(f"{name} is outside float16's range", "export fp32 instead: --precision fp32")
        return self.weight(name, value.astype(np.float16) if self.half else value)

    def weight(self, name: str, value: Array) -> str:
        """Store an array under ``name``, in its own dtype."""
        self.weights[name] = numpy_helper.from_array(value, name)
        return name

    def constant(self, *values: int) -> str:
        """A shared int64 vector (shapes, axes, indices)."""
        name = "const." + ("x".join(str(value) for value in values) or "empty")
        return self.weight(name, np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A shared scalar in the precision of products."""
        return self.compute(f"scalar.{value:.9g}", np.array(value, dtype=np.float32))

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output; both carry ``name``."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, name: str, x: str, linear: Linear) -> str:
        """``x @ weight + bias``: a product and a sum, in and out in the precision of products."""
        if self.half and not (_fits_half(linear.weight) and _fits_half(linear.bias)):
            product = self.op(
                "MatMul", f"{name}.matmul", self.high(x), self.weight(f"{name}.weight", linear.weight)
            )
            return self.low(self.op("Add", name, product, self.weight(f"{name}.bias", linear.bias)))
        product = self.op("MatMul", f"{name}.matmul", x, self.compute(f"{name}.weight", linear.weight))
        return self.op("Add", name, product, self.compute(f"{name}.bias", linear.bias))

    def norm(self, name: str, x: str, norm: Norm) -> str:
        """One LayerNormalization node over the last axis, float32 in and out."""
        return self.op(
            "LayerNormalization",
            name,
            x,
            self.weight(f"{name}.weight", norm.weight),
            self.weight(f"{name}.bias", norm.bias),
            axis=-1,
            epsilon=norm.eps,
        )

    def gelu(self, name: str, x: str) -> str:
        """x / 2 * (1 + erf(x / sqrt 2)), in the order of operators that engines recognise and fuse."""
        ratio = self.op("Div", f"{name}.div", x, self.scalar(math.sqrt(2.0)))
        shifted = self.op("Add", f"{name}.add", self.op("Erf", f"{name}.erf", ratio), self.scalar(1.0))
        return self.op("Mul", name, self.op("Mul", f"{name}.mul", x, shifted), self.scalar(0.5))

    def quick_gelu(self, name: str, x: str) -> str:
        """x * sigmoid(1.702 x)."""
        gate = self.op("Sigmoid", f"{name}.sigmoid", self.op("Mul", f"{name}.mul", x, self.scalar(1.702)))
        return self.op("Mul", name, x, gate)

    def gelu_tanh(self, name: str, x: str) -> str:
        """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
        cube = self.op("Pow", f"{name}.cube", x, self.scalar(3.0))
        inner = self.op("Add", f"{name}.sum", x, self.op("Mul", f"{name}.part", cube, self.scalar(0.044715)))
        inner = self.op("Mul", f"{name}.inner", inner, self.scalar(math.sqrt(2.0 / math.pi)))
        shifted = self.op("Add", f"{name}.add", self.op("Tanh", f"{name}.tanh", inner), self.scalar(1.0))
        return self.op("Mul", name, self.op("Mul", f"{name}.mul", x, shifted), self.scalar(0.5))

    def activate(self, name: str, x: str, activation: Activation) -> str:
        """The activation by its name."""
        act = {"gelu": self.gelu, "gelu_tanh": self.gelu_tanh, "quick_gelu": self.quick_gelu}
        return act[activation](name, x)


def float32_products(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the products with a float32 weight: in a half graph, those that float16 cannot hold."""
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    return tuple(
        node.name.removesuffix(".matmul")
        for node in model.graph.node
        if node.op_type == "MatMul" and kinds.get(node.input[1]) == TensorProto.FLOAT
    )


def _fits_half(value: Array) -> bool:
    return bool(np.abs(value).max(initial=0.0) <= HALF_MAX)
