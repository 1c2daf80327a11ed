"""Proof that the reconstruction branch is gone: where every tensor of the checkpoint went, by content.

A name that is absent proves little, since folding renames. So each tensor is looked for by its numbers in the
weights that were written: those of the adaptation branch must be found in their graph, those of the
reconstruction branch must be found in none.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from rmatk_export.content import Rows
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
    files = dict(zip(("image", "text"), graphs, strict=True))
    held = {file: _weights(graph) for file, graph in graphs.items()}
    _assert_absent({name: t for name, t in checkpoint.items() if _dropped(name)}, graphs, held)
    placements = []
    for tower, file in files.items():
        own = {name: tensor for name, tensor in checkpoint.items() if name.split(".")[0] == tower}
        folded = {name: _folded(name, t, scale) for name, t in own.items() if not _dropped(name)}
        _assert_present({name: t for name, t in folded.items() if not _bias_of_sum(name)}, file, held[file])
        placements += [
            Placement(tensor=name, shape=tuple(t.shape), where=DROPPED if _dropped(name) else file)
            for name, t in own.items()
        ]
    gone = sum(checkpoint[p.tensor].size for p in placements if p.where == DROPPED)
    return Proof(placements=tuple(placements), parameters_dropped=gone, bytes_saved=4 * gone)


def _dropped(name: str) -> bool:
    """Whether a tensor belongs to the reconstruction branch."""
    return name.split(".")[-2] in ("rec1", "rec2")


def _folded(name: str, tensor: Array, scale: float) -> Array:
    """A tensor's numbers after the fold."""
    return tensor * np.float32(scale) if name.split(".")[-2] == "up" else tensor


def _weights(graph: onnx.ModelProto) -> list[npt.NDArray[np.generic]]:
    return [numpy_helper.to_array(weight) for weight in graph.graph.initializer]


def _bias_of_sum(name: str) -> bool:
    """``up.bias`` is added to the block's own bias, where its numbers cannot be told apart any more."""
    return name.endswith(".up.bias")


def _assert_absent(
    tensors: Mapping[str, Array],
    graphs: Mapping[str, onnx.ModelProto],
    held: Mapping[str, list[npt.NDArray[np.generic]]],
) -> None:
    """No row or column of a tensor is in any graph, nor is one of its layers' names."""
    owners, rows = _lines(tensors, both=True)
    for file, weights in held.items():
        names = [w.name for w in graphs[file].graph.initializer if "rec1" in w.name or "rec2" in w.name]
        if intruders := names or [owners[i] for i in sorted(rows.found(weights))]:
            raise ExportError(
                f"the reconstruction tensor {intruders[0]} is in {file}",
                "this is a fault of the export: report it",
            )


def _assert_present(tensors: Mapping[str, Array], file: str, weights: list[npt.NDArray[np.generic]]) -> None:
    """Every row of every tensor is in the graph."""
    owners, rows = _lines(tensors, both=False)
    if missing := sorted(set(rows.indices) - rows.found(weights)):
        raise ExportError(f"the tensor {owners[missing[0]]} of the adaptation branch is not in {file}")


def _lines(tensors: Mapping[str, Array], *, both: bool) -> tuple[list[str], Rows]:
    """Rows of all tensors, with ``both`` their columns too, and the name that each belongs to."""
    lines = [
        (name, line)
        for name, tensor in tensors.items()
        for matrix in ((tensor, tensor.T) if both and tensor.ndim == 2 else (tensor,))
        for line in np.atleast_2d(matrix.astype(np.float32))
    ]
    return [name for name, _ in lines], Rows([line for _, line in lines])
