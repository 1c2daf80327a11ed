"""Proof that the reconstruction branch is gone: where every tensor of the checkpoint went, by content.

A name that is absent proves little, since folding renames. So each tensor is looked for by its numbers in the
weights that were written: those of the adaptation branch must be found in their graph, those of the
reconstruction branch must be found in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from rmatk_export.weights import Array
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


def prove(checkpoint: Mapping[str, Array], graphs: Mapping[str, onnx.ModelProto], scale: float) -> Proof:
    """Find every tensor of ``checkpoint`` in ``graphs`` (float32 ones, by file name).

    Args:
        checkpoint: adapter tensors by name (``image.blocks.5.down.weight``), as trained.
        graphs: the written graphs; tensors named ``image.`` belong to the first, ``text.`` to the second.
        scale: s, by which the adaptation branch's second layer was multiplied.

    Raises:
        ExportError: a reconstruction tensor is in a graph, by name or content, or another one is in none.
    """
    held = {file: _weights(graph) for file, graph in graphs.items()}
    files = dict(zip(("image", "text"), graphs, strict=True))
    placements = []
    for name, tensor in checkpoint.items():
        tower, layer = name.split(".")[0], name.split(".")[-2]
        factor = np.float32(scale) if layer == "up" else np.float32(1.0)
        if layer in ("rec1", "rec2"):
            _assert_absent(name, tensor, held, graphs)
            where = DROPPED
        elif _bias_of_sum(name) or _found(tensor * factor, held[files[tower]]):
            where = files[tower]
        else:
            raise ExportError(f"the tensor {name} of the adaptation branch is not in {files[tower]}")
        placements.append(Placement(tensor=name, shape=tuple(tensor.shape), where=where))
    gone = sum(checkpoint[p.tensor].size for p in placements if p.where == DROPPED)
    return Proof(placements=tuple(placements), parameters_dropped=gone, bytes_saved=4 * gone)


def _bias_of_sum(name: str) -> bool:
    """``up.bias`` is added to the block's own bias, where its numbers cannot be told apart any more."""
    return name.endswith(".up.bias")


def _assert_absent(
    name: str, tensor: Array, held: Mapping[str, bytes], graphs: Mapping[str, onnx.ModelProto]
) -> None:
    for file, content in held.items():
        named = any(
            "rec1" in weight.name or "rec2" in weight.name for weight in graphs[file].graph.initializer
        )
        if named or _any_row(tensor, content):
            raise ExportError(
                f"the reconstruction tensor {name} is in {file}", "this is a fault of the export: report it"
            )


def _weights(graph: onnx.ModelProto) -> bytes:
    """All float32 weights as bytes, each matrix both ways round, so that any row or column is one run."""
    arrays = (numpy_helper.to_array(weight) for weight in graph.graph.initializer)
    floats = [array for array in arrays if array.dtype == np.float32]
    return b"".join(array.tobytes() + array.T.tobytes() for array in floats)


def _found(tensor: Array, content: bytes) -> bool:
    """Whether every row of a tensor is somewhere in the weights."""
    return all(row in content for row in _rows(tensor))


def _any_row(tensor: Array, content: bytes) -> bool:
    return any(row in content for row in (*_rows(tensor), *_rows(tensor.T)))


def _rows(tensor: Array) -> Iterable[bytes]:
    """Rows that say something: one of zeros is in every file."""
    return (row.tobytes() for row in np.atleast_2d(tensor.astype(np.float32)) if np.any(row))
