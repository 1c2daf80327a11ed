"""A graph node by node in float64, by ONNX's own reference implementation: right, slow, of no engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rmatk_runtime.arrays import Array


@dataclass(frozen=True)
class Step:
    """One node, or several of which only the last one's outputs are seen, with weights as the graph has them;
    ``inputs`` are the names of what they read of others."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    weights: Mapping[str, onnx.TensorProto]
    evaluator: ReferenceEvaluator

    @property
    def node(self) -> onnx.NodeProto:
        """The last node."""
        return self.nodes[-1]

    def apply(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by name, from the ``values`` of its inputs by name, any shapes that the node takes."""
        # Widened for this once: all weights of a large tower in float64 would not fit beside the rest.
        feeds = {name: double(numpy_helper.to_array(weight)) for name, weight in self.weights.items()}
        feeds |= {name: double(values[name]) for name in self.inputs}
        with np.errstate(all="ignore"):  # callers look for values that are not finite
            outputs = self.evaluator.run(None, feeds)
        return dict(zip(self.node.output, outputs, strict=True))


def steps_of(model: onnx.ModelProto, seen: Collection[str] | None = None) -> list[Step]:
    """Every node of a float32 graph, in its order.

    One whose output is not among the values ``seen`` (None: all are), and is read by one other alone, makes
    one step with that other.
    """
    held = {weight.name: weight for weight in model.graph.initializer}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    readers = Counter(name for node in model.graph.node for name in node.input)
    waiting: dict[str, tuple[onnx.NodeProto, ...]] = {}
    steps = []
    for node in model.graph.node:
        nodes = (*(one for name in node.input for one in waiting.pop(name, ())), node)
        if seen is not None and all(name not in seen and readers[name] == 1 for name in node.output):
            waiting[node.output[0]] = nodes
        else:
            steps.append(_step(nodes, held, opsets))
    return steps


def _step(
    nodes: tuple[onnx.NodeProto, ...], held: Mapping[str, onnx.TensorProto], opsets: Mapping[str, int]
) -> Step:
    made = {name for node in nodes for name in node.output}
    read = dict.fromkeys(name for node in nodes for name in node.input if name not in made)
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names]
        for names in (read, nodes[-1].output)
    )
    alone = helper.make_graph(nodes, nodes[-1].name, inputs, outputs)
    return Step(
        nodes,
        tuple(name for name in read if name not in held),
        {name: held[name] for name in read if name in held},
        ReferenceEvaluator(alone, opsets=dict(opsets)),
    )


def double(value: Array) -> Array:
    """Floating-point values in float64, others as they are."""
    return value.astype(np.float64, copy=False) if value.dtype.kind == "f" else value
