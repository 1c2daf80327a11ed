"""Looking through an ONNX file from outside before ONNX Runtime or TensorRT gets to see it.

Engines trust the graphs that they are given: sizes that do not fit, operators with files or subgraphs inside
and edges that lead nowhere end in a crash of the process or in memory beyond any bound. All graphs of a
bundle are written by :mod:`rmatk_export`, so nothing but what it writes is let through: one flat list of
nodes, a few operators, weights whose bytes are there. The format is protobuf (github.com/onnx/onnx,
``onnx/onnx.proto``); it is read here without the onnx package, which a device does not have.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from rmatk_runtime.bundle.protobuf import Fields, number, numbers, text

# What towers are written with, and no more. Above all no Resize: engines resample otherwise than Pillow and
# than each other (open-mmlab/mmdeploy #2593; pytorch/pytorch #177138: another cubic coefficient).
OPERATORS = frozenset(
    [
        "Add",
        "ArgMax",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "DequantizeLinear",
        "Div",
        "Equal",
        "Erf",
        "Gather",
        "GatherND",
        "LayerNormalization",
        "MatMul",
        "Max",
        "Mul",
        "Neg",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "ReduceL2",
        "ReduceMean",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
    ]
)
FLOAT, UINT8, INT64 = 1, 2, 7  # ONNX's numbers of element types
_ITEM_SIZES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2}  # float, uint8, int8, int32, int64, bool, float16
_MOST_NODES = 50_000
_LARGEST = 1 << 20  # of a number that stands for a size, an axis or an index
_TO_THE_END = 2**31 - 1  # of a slice
_SMALL = 1024  # bytes: constants that stand for sizes and axes are not larger

_MODEL = Fields({1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2}, many=(8, 14))
_OPSET = Fields({1: 2, 2: 0})
_GRAPH = Fields({1: 2, 2: 2, 5: 2, 10: 2, 11: 2, 12: 2, 13: 2}, many=(1, 5, 11, 12, 13))
_NODE = Fields({1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2}, many=(1, 2, 5))
_ATTRIBUTE = Fields({1: 2, 2: 5, 3: 0, 4: 2, 8: 0, 13: 2, 20: 0}, many=(8,), packed=(8,))
_TENSOR = Fields({1: 0, 2: 0, 8: 2, 9: 2, 12: 2, 13: 2, 14: 0}, many=(1, 13), packed=(1,))
_ENTRY = Fields({1: 2, 2: 2})
_VALUE = Fields({1: 2, 2: 2, 3: 2})
_TYPE = Fields({1: 2, 6: 2})
_TENSOR_TYPE = Fields({1: 0, 2: 2})
_SHAPE = Fields({1: 2}, many=(1,))
_DIMENSION = Fields({1: 0, 2: 2, 3: 2})


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: ONNX's number of its element type, and its sizes, None where free."""

    name: str
    kind: int
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.shape} of type {self.kind}"


@dataclass
class _Seen:
    """Names that a node may take as its inputs, and the graph's ports."""

    names: set[str] = field(default_factory=set)
    ports: dict[int, list[Port]] = field(default_factory=lambda: {11: [], 12: []})


def check_graph(path: Path) -> tuple[Port, Port]:
    """The input and the output of an ONNX file that holds nothing but what rmatk writes.

    Weights kept apart are expected in ``FILE.data`` beside it.

    Raises:
        ValueError: anything else; says what and where.
        OSError: it cannot be read.
    """
    data = path.with_name(f"{path.name}.data")
    apart = data.stat().st_size if data.is_file() else 0
    with path.open("rb") as file:  # the mapping ends with the last view of it
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return _check_model(view, {data.name: apart})


def _check_model(view: memoryview, apart: Mapping[str, int]) -> tuple[Port, Port]:
    model = _MODEL.read(view, "the model")
    for entry in model[8]:
        if text(_OPSET.read(entry, "an opset")[1]) not in ("", "ai.onnx"):
            raise ValueError("it uses operators that are not ONNX's own")
    if not model[7]:
        raise ValueError("it holds no graph")
    graph = _GRAPH.read(model[7][0], "the graph")
    seen = _Seen()
    for tensor in graph[5]:
        _add(seen.names, _check_tensor(tensor, apart))
    for key in (11, 12):
        seen.ports[key] = [_port(value) for value in graph[key]]
    if len(seen.ports[11]) != 1 or len(seen.ports[12]) != 1:
        raise ValueError("it has not one input and one output")
    source, result = seen.ports[11][0], seen.ports[12][0]
    _add(seen.names, source.name)
    if len(graph[1]) > _MOST_NODES:
        raise ValueError(f"it has {len(graph[1])} nodes, more than {_MOST_NODES}")
    for node in graph[1]:
        _check_node(node, seen.names)
    for value in graph[13]:
        _port(value)
    if result.name not in seen.names:
        raise ValueError(f"no node makes its output {result.name!r}")
    return source, result


def _add(names: set[str], name: str) -> None:
    if not name or name in names:
        raise ValueError(f"the value {name!r} is there twice, or has no name")
    names.add(name)


def _check_node(view: memoryview, names: set[str]) -> None:
    """A node of an allowed kind, whose inputs came before it and whose outputs are new."""
    node = _NODE.read(view, "a node")
    kind = text(node[4])
    if kind not in OPERATORS or text(node[7]) not in ("", "ai.onnx"):
        raise ValueError(f"it holds an operator {kind!r}, which rmatk does not write")
    for name in map(text, ([part] for part in node[1])):
        if name and name not in names:
            raise ValueError(f"a node {kind} takes {name!r}, which nothing before it makes")
    for name in map(text, ([part] for part in node[2])):
        _add(names, name)
    for part in node[5]:
        attribute = _ATTRIBUTE.read(part, f"an attribute of {kind}")
        if text(attribute[4]):
            raise ValueError(f"a node {kind} has a text as an attribute")
        for value in (*attribute[3], *numbers(attribute[8])):
            if abs(_signed(value)) > _LARGEST:
                raise ValueError(f"a node {kind} holds the number {_signed(value)}, beyond all sizes")
        for bits in attribute[2]:
            if not np.isfinite(np.uint32(bits).view(np.float32)):
                raise ValueError(f"a node {kind} holds a number that is not finite")


def _check_tensor(view: memoryview, apart: Mapping[str, int]) -> str:
    """A weight that has as many bytes as its sizes ask for, here or in the file of weights."""
    tensor = _TENSOR.read(view, "a weight")
    name, sizes = text(tensor[8]), [_signed(size) for size in numbers(tensor[1])]
    item = _ITEM_SIZES.get(number(tensor[2]))
    if item is None or len(sizes) > 8 or any(not 0 <= size <= 1 << 31 for size in sizes):
        raise ValueError(f"the weight {name!r} has an element type or sizes that rmatk does not write")
    expected = prod(sizes) * item
    if number(tensor[14]):
        place = {text(e[1]): text(e[2]) for e in (_ENTRY.read(part, "a place") for part in tensor[13])}
        held = apart.get(place.get("location", ""), -1)
        offset, length = (int(place.get(key, "-1")) for key in ("offset", "length"))
        if length != expected or offset < 0 or offset + length > held:
            raise ValueError(f"the weight {name!r} is outside the file of weights")
        return name
    found = len(tensor[9][0]) if tensor[9] else 0
    if tensor[13] or found != expected:
        raise ValueError(f"the weight {name!r} has {found} bytes, its sizes ask for {expected}")
    if number(tensor[2]) == 7 and found <= _SMALL:
        values = np.frombuffer(tensor[9][0], "<i8") if tensor[9] else np.empty(0, np.int64)
        if np.any(((values > _LARGEST) | (values < -_LARGEST)) & (values != _TO_THE_END)):
            raise ValueError(f"the constant {name!r} holds a number beyond all sizes")
    return name


def _port(view: memoryview) -> Port:
    value = _VALUE.read(view, "a value")
    kind = _TYPE.read(value[2][0] if value[2] else b"", "a type")
    tensor = _TENSOR_TYPE.read(kind[1][0] if kind[1] else b"", "a tensor's type")
    shape = _SHAPE.read(tensor[2][0] if tensor[2] else b"", "a shape")
    sizes = [_DIMENSION.read(part, "a size")[1] for part in shape[1]]
    if any(size and not 0 < size[0] <= _LARGEST for size in sizes):
        raise ValueError("a value has a size beyond all bounds")
    return Port(text(value[1]), number(tensor[1]), tuple(int(size[0]) if size else None for size in sizes))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
