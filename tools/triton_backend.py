"""A stand-in for Triton's ONNX Runtime backend, which comes in NVIDIA's containers only.

tools/triton_check.py gives it to Triton's own server under the backend's name. It runs in the server's Python
process, reads the same files and settings, and leaves everything else (configuration, ensemble, batching,
labels, protocols) to the server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

LEVELS = {0: "ORT_ENABLE_ALL", -1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}


class TritonPythonModel:
    """One model on ONNX Runtime's CPU, with the graph's level that its configuration states."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the file that the configuration names."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], config["default_model_filename"])
        options = onnxruntime.SessionOptions()
        level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One pass over all requests that the server has put together."""
        given = [
            [triton.get_input_tensor_by_name(r, name).as_numpy() for name in self.inputs] for r in requests
        ]
        feeds = {
            name: np.concatenate(parts)
            for name, parts in zip(self.inputs, zip(*given, strict=True), strict=True)
        }
        values = self.session.run(self.outputs, feeds)
        ends = np.cumsum([len(tensors[0]) for tensors in given])[:-1]
        answers = zip(*(np.split(value, ends) for value in values), strict=True)
        return [
            triton.InferenceResponse(
                [
                    triton.Tensor(name, np.ascontiguousarray(part))
                    for name, part in zip(self.outputs, parts, strict=True)
                ]
            )
            for parts in answers
        ]
