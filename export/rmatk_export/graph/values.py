"""Type and shape of every value of a graph, as ONNX infers them, and the rules for all of them.

An engine plans its memory from these. A value of unknown shape, or whose batch was fixed at 1 by tracing,
shows only when somebody runs a batch (livekit/livekit-wakeword PR #39, roboflow/rf-detr #137, pytorch/pytorch
#120075).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto

from rmatk_export.graph.storage import weights_as_inputs
from rmatk_runtime.errors import ExportError

BATCH = "N"
# What TensorRT 10.3 and ONNX Runtime compute with alike; TensorRT has no float64, and one such constant would
# double a whole path unseen.
TYPES = ("FLOAT", "FLOAT16", "INT8", "UINT8", "INT32", "INT64", "BOOL")


@dataclass(frozen=True)
class Value:
    """``kind``: its type as ONNX names it (``FLOAT16``); ``shape``: numbers, or symbols such as ``N``."""

    kind: str
    shape: tuple[int | str, ...]


def infer(model: onnx.ModelProto) -> dict[str, Value]:
    """Every value of a graph by its name: inputs, weights, and what each node gives.

    Raises:
        ExportError: the graph contradicts itself, or a value of unknown type or shape, by its name.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(
            weights_as_inputs(model), check_type=True, strict_mode=True, data_prop=True
        ).graph
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"the graph {model.graph.name} is not valid ONNX: {error}") from error
    found = {
        weight.name: Value(TensorProto.DataType.Name(weight.data_type), tuple(weight.dims))
        for weight in model.graph.initializer
    }
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = info.type.tensor_type
        if kind.elem_type and kind.HasField("shape"):
            sizes = (d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim)
            found[info.name] = Value(TensorProto.DataType.Name(kind.elem_type), tuple(sizes))
    for node in model.graph.node:
        for output in node.output:
            if output not in found or "" in found[output].shape:
                raise ExportError(
                    f"{model.graph.name}: type and shape of {output} ({node.op_type}) are unknown"
                )
    return found


def check_values(model: onnx.ModelProto, values: dict[str, Value], *, constant: bool) -> None:
    """Known types only; the batch stays open from the input to the end.

    Args:
        model: the graph.
        values: as inferred.
        constant: whether every size but the batch is a number, as in an image graph.

    Raises:
        ExportError: naming the value.
    """
    for name, value in values.items():
        if value.kind not in TYPES:
            raise ExportError(f"{model.graph.name}: {name} is {value.kind}, not one of {', '.join(TYPES)}")
        if constant and any(isinstance(size, str) for size in value.shape[1:]):
            raise ExportError(f"{model.graph.name}: {name} has sizes that are not constants: {value.shape}")
    for name in _fed(model):
        shape = values[name].shape
        if not shape or shape[0] != BATCH:
            raise ExportError(f"{model.graph.name}: {name} is not open in its batch, its shape is {shape}")


def _fed(model: onnx.ModelProto) -> list[str]:
    """The input and all that is computed from its numbers; what is computed from its size alone is not."""
    fed = dict.fromkeys(value.name for value in model.graph.input)
    for node in model.graph.node:
        if node.op_type != "Shape" and any(name in fed for name in node.input):
            fed |= dict.fromkeys(node.output)
    return list(fed)
