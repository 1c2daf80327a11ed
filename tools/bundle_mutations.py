"""Changes to the files of a bundle, as an attacker or a bad disk would make them, each drawn from a seed."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

Mutation = Callable[[bytes, random.Random], bytes]

_NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    255,
    256,
    65_536,
    10**6,
    10**9,
    2**31 - 1,
    2**31,
    2**63 - 1,
    2**64,
    0.5,
    -0.0,
    1e-300,
)
_FLOATS = (1e308, 1e999, -1e999, 1e-45, float("nan"))
_TEXTS = (
    "",
    "x",
    "../x",
    "/x",
    "a" * 5000,
    "\x1b[0m",
    "\n",
    "\u202e",
    "\ud800",
    "{}",
    "é",
    "0" * 64,
    "manifest.json",
)
_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [0], {"": 0})


def change_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flipped bits, a cut, a gap, a repetition or noise."""
    changed = bytearray(data)
    place = draw.randrange(len(changed))
    size = min(draw.choice((1, 2, 8, 64, 1024)), len(changed) - place)
    kind = draw.randrange(6)
    if kind <= 1:
        for _ in range(draw.choice((1, 1, 2, 8))):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    elif kind == 2:
        del changed[place:]
    elif kind == 3:
        del changed[place : place + size]
    elif kind == 4:
        changed[place:place] = changed[place : place + size]
    else:
        changed[place : place + size] = draw.randbytes(size)
    return bytes(changed)


def change_json(data: bytes, draw: random.Random) -> bytes:
    """One or more values of a JSON document replaced, removed, repeated or nested."""
    content = json.loads(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        places = list(_places(content))
        if not places:
            break
        holder, key = draw.choice(places)
        _change_place(holder, key, draw)
    text = json.dumps(content)
    if draw.random() < 0.02:
        depth = draw.choice((100, 10_000))
        text = "[" * depth + text + "]" * depth
    return text.encode("utf-8", "surrogatepass")


def _places(content: Any) -> Any:
    keys = content.keys() if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def _change_place(holder: Any, key: Any, draw: random.Random) -> None:
    value, kind = holder[key], draw.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = draw.choice(_OTHERS)
    elif kind == 2 and isinstance(value, list):
        holder[key] = value * draw.choice((0, 2, 1000))
    elif kind == 2 and isinstance(holder, dict):
        holder[draw.choice(_TEXTS)] = value
    elif kind == 3:
        holder[key] = draw.choice(_TEXTS)
    elif isinstance(value, int | float) and kind < 7:
        scaled = value * draw.choice((-1, 0.1, 2, 1000))
        holder[key] = draw.choice((*_NUMBERS, *_FLOATS, value + 1, value - 1, scaled))
    elif isinstance(value, str) and kind < 7:
        holder[key] = draw.choice((*_TEXTS, value[:-1], value + value, value.upper()))
    else:
        holder[key] = draw.choice((*_NUMBERS, *_TEXTS))


def change_npz(data: bytes, draw: random.Random) -> bytes:
    """An archive with members changed, renamed, removed or added, in ways that NumPy can and cannot write."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(list(members))
    kind = draw.randrange(7)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[draw.choice(("x.npy", "names.npy", "../x.npy", f"{name}.npy"))] = members[name]
    elif kind == 2:
        members[name] = change_bytes(members[name], draw)
    elif kind == 3:
        members[name] = _change_header(members[name], draw)
    else:
        members[name] = _change_array(members[name], draw)
    buffer = io.BytesIO()
    method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return buffer.getvalue()


def _change_header(member: bytes, draw: random.Random) -> bytes:
    """Another type or shape for the same bytes."""
    length = int.from_bytes(member[8:10], "little")
    header = member[10 : 10 + length].decode("latin-1")
    kinds = (
        "<f4",
        "<f8",
        "|u1",
        "<U1",
        "<U9999",
        "|O",
        "|V8",
        "<i8",
        "<c8",
        "|S4",
        "<M8[s]",
        "[('a', '<f4')]",
    )
    shapes = ("()", "(0,)", "(-1,)", "(1,)", "(1000000000,)", "(99999999999, 4)", "(1, 1, 1)", "(3, 24)")
    if draw.random() < 0.5:
        start = header.index("'descr': ") + 9
        header = f"{header[:start]}'{draw.choice(kinds)}'{header[header.index(', ', start) :]}"
    else:
        start = header.index("'shape': ") + 9
        header = f"{header[:start]}{draw.choice(shapes)}, }}"
    return member[:10] + header.ljust(length)[:length].encode("latin-1") + member[10 + length :]


def _change_array(member: bytes, draw: random.Random) -> bytes:
    """Other values, fewer or more of them, another type, as NumPy writes it."""
    array = np.load(io.BytesIO(member))
    kind = draw.randrange(6)
    if array.dtype.kind == "U":
        words = (*_TEXTS[:8], str(array.reshape(-1)[0]))
        array = array.astype("<U5000")
        array[draw.randrange(len(array))] = draw.choice([word for word in words if "\ud800" not in word])
    elif kind == 0:
        array = array[: draw.randrange(len(array))]
    elif kind == 1:
        array = np.concatenate([array, array])
    elif kind == 2:
        array = array.astype(draw.choice(("<f2", "<f8", "<i4", "|b1")))
    elif kind == 3 and array.dtype.kind == "f":
        array.reshape(-1)[draw.randrange(array.size)] = draw.choice((np.nan, np.inf, 0, 1e38, -1))
    elif kind == 4:
        array = array * 0
    else:
        array = np.asfortranarray(array[..., : max(1, array.shape[-1] // 2)])
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def change_onnx(data: bytes, draw: random.Random) -> bytes:
    """A graph with fields of nodes, weights and ports changed, as protobuf can hold them."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        draw.choice(
            (_change_node, _change_node, _change_weight, _change_weight, _change_constant, _change_port)
        )(model, draw)
    return bytes(model.SerializeToString())


def _change_node(model: onnx.ModelProto, draw: random.Random) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    node, other = draw.choice(nodes), draw.choice(nodes)
    kind = draw.randrange(7)
    if kind == 0:
        node.op_type = draw.choice((other.op_type, "Identity", "Expand", "Loop", "Resize", ""))
    elif kind == 1 and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice((*other.input, *other.output, "", "x"))
    elif kind == 2:
        nodes.remove(node)
    elif kind == 3:
        nodes.add().CopyFrom(node)
    elif kind == 4 and node.attribute:
        attribute = draw.choice(node.attribute)
        numbers = [draw.choice((-1, 0, 1, 2, 3, 7, 1000, 2**20, 2**40, -(2**63))) for _ in range(4)]
        attribute.i, attribute.f = numbers[0], draw.choice((0.0, -1.0, 1e38, float("nan")))
        attribute.ints[:] = numbers[: len(attribute.ints)]
    elif kind == 5:
        node.attribute.add(name=draw.choice(("axis", "to", "perm", "x")), i=draw.randrange(-9, 99), type=2)
    else:
        node.domain = draw.choice(("", "com.microsoft", "x"))


def _change_weight(model: onnx.ModelProto, draw: random.Random) -> None:
    weight = draw.choice(model.graph.initializer)
    kind = draw.randrange(6)
    if kind == 0:
        weight.data_type = draw.randrange(0, 24)
    elif kind == 1 and weight.dims:
        weight.dims[draw.randrange(len(weight.dims))] = draw.choice((-1, 0, 1, 2, 48, 2**31, 2**62))
    elif kind == 2 and weight.raw_data:
        weight.raw_data = change_bytes(weight.raw_data, draw)
    elif kind == 3 and weight.raw_data:
        weight.raw_data = b"\xff" * len(weight.raw_data)
    elif kind == 4:
        weight.dims[:] = list(reversed(weight.dims))
    else:
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=draw.choice(("../x", "manifest.json", "x")))


def _change_constant(model: onnx.ModelProto, draw: random.Random) -> None:
    """Sizes, axes and paddings are int64 weights."""
    constants = [weight for weight in model.graph.initializer if weight.data_type == onnx.TensorProto.INT64]
    weight = draw.choice(constants)
    values = np.frombuffer(weight.raw_data, "<i8").copy()
    numbers = (-1, 0, 1, 2, 3, 17, 48, 1000, 10**5, 2**20, 2**31, -(2**63))
    values[draw.randrange(len(values))] = draw.choice(numbers)
    weight.raw_data = values.tobytes()


def _change_port(model: onnx.ModelProto, draw: random.Random) -> None:
    port = draw.choice((*model.graph.input, *model.graph.output))
    sizes = port.type.tensor_type.shape.dim
    kind = draw.randrange(4)
    if kind == 0:
        port.name = draw.choice(("x", "images", "embeddings", ""))
    elif kind == 1:
        port.type.tensor_type.elem_type = draw.randrange(0, 20)
    elif kind == 2 and sizes:
        draw.choice(sizes).dim_value = draw.choice((-1, 0, 1, 24, 32, 2**20, 2**40))
    else:
        model.opset_import[0].version = draw.choice((0, 1, 7, 17, 99, 2**40))


BY_SUFFIX: dict[str, Mutation] = {".json": change_json, ".npz": change_npz, ".onnx": change_onnx}
