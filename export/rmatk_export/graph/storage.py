"""ONNX files on disk: one file, or external data above protobuf's 2 GiB limit.

A protobuf message ends at 2 GiB, and the float32 image tower of a ViT-H/14 is larger. Weights are then in
``FILE.data`` beside ``FILE``, as ONNX's external data, in one file and by that name alone, so that no graph
points out of its folder. ONNX Runtime and TensorRT's parser find them by the graph's own path.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from rmatk_runtime.bundle.manifest import data_file
from rmatk_runtime.errors import ExportError
from rmatk_runtime.files import replacing, write_atomic

LIMIT = (1 << 31) - (64 << 20)  # bytes of weights; the rest of a message must fit as well
SMALL = 1024  # bytes of a weight that stays in the graph: shapes, axes, scalars
_AGAIN = "export the bundle again: rmatk export RUN -o BUNDLE"
_PAGE = 4096  # weights begin on a page, so that they can be mapped into memory


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph whole or not at all; weights beyond :data:`LIMIT` go into ``FILE.data``.

    Raises:
        StorageError: disk full, no permission.
    """
    if sum(_size(weight) for weight in model.graph.initializer) <= LIMIT:
        write_atomic(path, model.SerializeToString(deterministic=True))
        return
    bare = without_weights(model)
    data = path.with_name(data_file(path.name))
    with replacing(data) as partial, partial.open("wb") as file:
        for weight in model.graph.initializer:
            if _size(weight) <= SMALL:
                continue
            file.write(b"\0" * (-file.tell() % _PAGE))
            place = {"location": data.name, "offset": file.tell(), "length": file.write(weight.raw_data)}
            outside = bare.graph.initializer.add(
                name=weight.name, dims=weight.dims, data_type=weight.data_type
            )
            outside.data_location = TensorProto.EXTERNAL
            for key, value in place.items():
                outside.external_data.add(key=key, value=str(value))
    write_atomic(path, bare.SerializeToString(deterministic=True))


def load_graph(path: Path) -> onnx.ModelProto:
    """A graph with all of its weights.

    onnx refuses a data file with a second name (a hard link, as copies with ``cp -al`` or of a store are) or
    behind a link, though ONNX Runtime opens it; this reads it, from the graph's own folder alone.

    Raises:
        ExportError: a weight outside the folder, or one that is cut short.
    """
    model = onnx.load(str(path), load_external_data=False)
    for weight in model.graph.initializer:
        if weight.data_location == TensorProto.EXTERNAL:
            _read_outside(weight, path)
    return model


def _read_outside(weight: onnx.TensorProto, path: Path) -> None:
    """Bring a weight's numbers into the graph."""
    place = {entry.key: entry.value for entry in weight.external_data}
    name = place.get("location", "")
    if Path(name).name != name:
        raise ExportError(f"{path}: the weight {weight.name} is in {name!r}, outside its folder", _AGAIN)
    size = _size(weight)
    with (path.parent / name).open("rb") as file:
        file.seek(int(place.get("offset", 0)))
        data = file.read(size)
    if len(data) != size or int(place.get("length", size)) != size:
        raise ExportError(
            f"{path.parent / name} is cut short: {weight.name} has {len(data)} of {size} bytes", _AGAIN
        )
    weight.raw_data = data
    weight.data_location = TensorProto.DEFAULT
    del weight.external_data[:]


def weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its larger weights as inputs: small enough for ONNX's checker in every case."""
    bare = without_weights(model)
    bare.graph.input.extend(
        helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        for weight in model.graph.initializer
        if _size(weight) > SMALL
    )
    return bare


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the weights larger than :data:`SMALL`, which is valid only once they are given again."""
    graph = model.graph
    small = [weight for weight in graph.initializer if _size(weight) <= SMALL]
    return with_graph(model, helper.make_graph(graph.node, graph.name, graph.input, graph.output, small))


def with_graph(model: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    """``graph`` in the versions, and by the producer, of ``model``."""
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
    )


def _size(weight: onnx.TensorProto) -> int:
    """Bytes of a weight's numbers."""
    return int(prod(weight.dims) * helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize)
