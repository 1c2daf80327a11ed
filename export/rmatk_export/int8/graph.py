"""int8 graphs: Q/DQ pairs around the products of the blocks.

The patch convolution, LayerNorm, attention's own products, softmax, the projection and the final norm stay
float.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from rmatk_export.graph.writer import Writer
from rmatk_export.int8.gptq import Int8Product
from rmatk_export.int8.ranges import products


def quantise(model: onnx.ModelProto, int8: Mapping[str, Int8Product]) -> onnx.ModelProto:
    """A float32 image graph with Q/DQ around the products that ``int8`` has, by their nodes' names.

    What such a product gives has another name than before: it is another value, since the bias that follows
    adds the correction as well.
    """
    chosen = {node.name: node for node in products(model) if node.name in int8}
    made_by = {node.output[0]: name for name, node in chosen.items()}
    biases = {weight.name: weight for weight in model.graph.initializer if weight.name.endswith(".bias")}
    w, replaced = Writer(), {node.input[1] for node in chosen.values()}
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.name in chosen:
            copy.input[:] = _through_int8(w, node, int8[node.name])
            copy.output[:] = [_int8_output(node)]
        elif node.op_type == "Add" and (product := made_by.get(node.input[0])):
            bias = node.input[1]
            corrected = numpy_helper.to_array(biases[bias]) + int8[product].correction
            copy.input[:] = [_int8_output(chosen[product]), w.weight(f"{bias}.corrected", corrected)]
            replaced.add(bias)
        w.nodes.append(copy)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(w.nodes)
    floats = (weight for weight in model.graph.initializer if weight.name not in replaced)
    result.graph.initializer.extend([*floats, *w.weights.values()])
    return result


def _int8_output(product: onnx.NodeProto) -> str:
    return f"{product.output[0]}.int8"


def _through_int8(w: Writer, node: onnx.NodeProto, int8: Int8Product) -> list[str]:
    """The names of a product's input and weight, each dequantised."""
    x, weight = node.input
    zero = w.weight("int8.zero", np.array(0, dtype=np.int8))
    step = w.weight(f"{x}.step", np.array(int8.input.step))
    if int8.input.centre:
        x = w.op("Sub", f"{x}.centred", x, w.weight(f"{x}.centre", np.array(int8.input.centre)))
    quantised = w.op("QuantizeLinear", f"{x}.int8", x, step, zero)
    steps = w.weight(f"{weight}.steps", int8.weight_steps)
    zeros = w.weight(f"int8.zeros.{len(int8.weight_steps)}", np.zeros(len(int8.weight_steps), dtype=np.int8))
    held = w.weight(f"{weight}.int8", int8.weight)
    return [
        w.op("DequantizeLinear", f"{x}.dequantised", quantised, step, zero),
        w.op("DequantizeLinear", f"{weight}.dequantised", held, steps, zeros, axis=1),
    ]
