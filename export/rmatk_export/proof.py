"""Proves by content that no tensor of the reconstruction branch is in a graph.

A name that is absent proves little, since folding renames. So each tensor is looked for by its numbers in the
weights that were written: those of the adaptation branch must be found in their graph, those of the
reconstruction branch must be found in none, whole or in part. Rounded to int8 they would not be recognised;
an int8 graph is made from the float32 graph that was searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from rmatk_export.content import Rows
from rmatk_runtime.arrays import Array, Float32
from rmatk_runtime.errors import ExportError

DROPPED = "dropped"


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of the checkpoint: its name, shape, and the file it went into, or ``dropped``."""

    tensor: str
    shape: tuple[int, ...]
    where: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Every tensor's place, and what dropping saved in numbers and (float32) bytes."""

    placements: tuple[Placement, ...]
    parameters_dropped: int
    bytes_saved: int


def prove(
    checkpoint: Mapping[str, Array],
    graphs: Mapping[str, onnx.ModelProto],
    scale: float,
    others: Mapping[str, onnx.ModelProto] | None = None,
) -> Proof:
    """Find every tensor of ``checkpoint`` in ``graphs`` (float32 ones, by file name).

    Args:
        checkpoint: adapter tensors by name (``image.blocks.5.down.weight``), as trained.
        graphs: the written graphs; tensors named ``image.`` belong to the first, ``text.`` to the second.
        scale: s, by which the adaptation branch's second layer was multiplied.
        others: further graphs, of any precision, which must be free of the reconstruction branch too.

    Raises:
        ExportError: a reconstruction tensor is in a graph, by name or content, whole or in part, or another
            one is in none.
    """
    files = dict(zip(("image", "text"), graphs, strict=True))
    dropped = {name: tensor for name, tensor in checkpoint.items() if _dropped(name)}
    for file, graph in {**graphs, **(others or {})}.items():
        _assert_absent(dropped, file, graph)
    placements = []
    for tower, file in files.items():
        own = {name: tensor for name, tensor in checkpoint.items() if name.split(".")[0] == tower}
        folded = {name: _folded(name, t, scale) for name, t in own.items() if not _dropped(name)}
        _assert_present({name: t for name, t in folded.items() if not _bias_of_sum(name)}, file, graphs[file])
        placements += [
            Placement(tensor=name, shape=tuple(t.shape), where=DROPPED if _dropped(name) else file)
            for name, t in own.items()
        ]
    gone = sum(tensor.size for tensor in dropped.values())
    return Proof(placements=tuple(placements), parameters_dropped=gone, bytes_saved=4 * gone)


def _dropped(name: str) -> bool:
    """Whether a tensor belongs to the reconstruction branch."""
    return name.split(".")[-2] in ("rec1", "rec2")


def _folded(name: str, tensor: Array, scale: float) -> Array:
    """A tensor's numbers after the fold."""
    return tensor * np.float32(scale) if name.split(".")[-2] == "up" else tensor


def _bias_of_sum(name: str) -> bool:
    """``up.bias`` is added to the block's own bias, where its numbers cannot be distinguished any more."""
    return name.endswith(".up.bias")


def _assert_absent(tensors: Mapping[str, Array], file: str, graph: onnx.ModelProto) -> None:
    """No piece of a tensor is in the graph, as trained or rounded to float16, nor a layer's name."""
    hint = "this is a fault of the export: report it"
    for weight in graph.graph.initializer:
        if "rec1" in weight.name or "rec2" in weight.name:
            raise ExportError(f"a reconstruction tensor is in {file}, by its name: {weight.name}", hint)
    for kind in (np.float32, np.float16):
        if weights := _weights(graph, kind):
            pieces = [(name, piece) for name, t in tensors.items() for piece in _pieces(t.astype(kind))]
            if found := Rows([piece for _, piece in pieces]).found(weights):
                raise ExportError(f"the reconstruction tensor {pieces[min(found)][0]} is in {file}", hint)


def _assert_present(tensors: Mapping[str, Array], file: str, graph: onnx.ModelProto) -> None:
    """Every row of every tensor is in the graph."""
    lines = [(name, line) for name, t in tensors.items() for line in np.atleast_2d(t.astype(np.float32))]
    rows = Rows([line for _, line in lines])
    if missing := set(rows.indices) - rows.found(_weights(graph, np.float32)):
        raise ExportError(f"the tensor {lines[min(missing)][0]} of the adaptation branch is not in {file}")


def _weights(graph: onnx.ModelProto, kind: type[np.floating]) -> list[npt.NDArray[np.generic]]:
    """The weights of one type of number, as float32."""
    arrays = (numpy_helper.to_array(weight) for weight in graph.graph.initializer)
    return [array.astype(np.float32, copy=False) for array in arrays if array.dtype == kind]


def _pieces(tensor: Array) -> Iterator[Float32]:
    """Rows and columns in pieces of 16 bytes, as float32: one changed number leaves the other pieces whole.

    Four trained float32 numbers, or eight of float16, are nowhere else by chance; shorter lines are pieces
    themselves in float32 and say too little in float16.
    """
    size = 16 // tensor.itemsize
    for matrix in (tensor, tensor.T) if tensor.ndim == 2 else (tensor,):
        for line in np.atleast_2d(matrix):
            if len(line) >= size or tensor.dtype == np.float32:
                for start in {*range(0, max(1, len(line) - size + 1), size), max(0, len(line) - size)}:
                    yield line[start : start + size].astype(np.float32)
