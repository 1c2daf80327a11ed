"""Adding operators to an ONNX graph one by one, each under a name that says where it belongs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rmatk_export.weights import Activation, Array, Linear, Norm


class Writer:
    """Collects nodes and weights; every method adds one operator and returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, value: Array) -> str:
        """Store an array under ``name``, in its own dtype."""
        self.weights[name] = numpy_helper.from_array(value, name)
        return name

    def constant(self, *values: int) -> str:
        """A shared int64 vector (shapes, axes, indices)."""
        name = "const." + ("x".join(str(value) for value in values) or "empty")
        return self.weight(name, np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A shared float32 scalar."""
        return self.weight(f"scalar.{value:.9g}", np.array(value, dtype=np.float32))

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output; both carry ``name``."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, name: str, x: str, linear: Linear) -> str:
        """``x @ weight + bias``: a product and a sum."""
        product = self.op("MatMul", f"{name}.matmul", x, self.weight(f"{name}.weight", linear.weight))
        return self.op("Add", name, product, self.weight(f"{name}.bias", linear.bias))

    def norm(self, name: str, x: str, norm: Norm) -> str:
        """One LayerNormalization node over the last axis."""
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
