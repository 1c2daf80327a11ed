"""Opens a graph in memory with ONNX Runtime; weights above protobuf's limit are read from disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

from rmatk_export.graph.storage import save_graph
from rmatk_runtime.onnx_runtime.backend import CPU, create_session


def graph_session(model: onnx.ModelProto, provider: str = CPU) -> Any:
    """An ``InferenceSession`` of ``model``, which it no longer needs afterwards.

    Raises:
        StorageError: no space for temporary files.
        BackendError: see :func:`~rmatk_runtime.onnx_runtime.backend.create_session`.
    """
    with tempfile.TemporaryDirectory(prefix="rmatk-graph-") as folder:
        path = Path(folder) / "graph.onnx"
        save_graph(model, path)
        return create_session(path, provider)
