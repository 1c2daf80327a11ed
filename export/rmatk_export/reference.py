"""A graph node by node in float64, by ONNX's own reference implementation: right, slow, of no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rmatk_export.weights import Array


@dataclass(frozen=True)
class Step:
    """One node with its weights as the graph has them; ``inputs`` are the names of its other inputs."""

    node: onnx.NodeProto
    inputs: tuple[str, ...]
    weights: Mapping[str, onnx.TensorProto]
    evaluator: ReferenceEvaluator

    def apply(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by name, from the ``values`` of its inputs by name, any shapes that the node takes."""
        # Widened for this once: all weights of a large tower in float64 would not fit beside the rest.
        feeds = {name: double(numpy_helper.to_array(weight)) for name, weight in self.weights.items()}
        feeds |= {name: double(values[name]) for name in self.inputs}
        with np.errstate(all="ignore"):  # callers look for values that are not finite
            outputs = self.evaluator.run(None, feeds)
        return dict(zip(self.node.output, outputs, strict=True))


def steps_of(model: onnx.ModelProto) -> list[Step]:
    """Every node of a float32 graph, in its order, with its weights."""
    held = {weight.name: weight for weight in model.graph.initializer}
    opsets = {entry.domain: entry.version for entry in model.opset_import}

    def step(node: onnx.NodeProto) -> Step:
        inputs, outputs = (
            [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names]
            for names in (node.input, node.output)
        )
        alone = helper.make_graph([node], node.name, inputs, outputs)
        return Step(
            node,
            tuple(name for name in node.input if name not in held),
            {name: held[name] for name in node.input if name in held},
            ReferenceEvaluator(alone, opsets=opsets),
        )

    return [step(node) for node in model.graph.node]


def double(value: Array) -> Array:
    """Floating-point values in float64, others as they are."""
    return value.astype(np.float64, copy=False) if value.dtype.kind == "f" else value
