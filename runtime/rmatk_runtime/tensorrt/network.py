"""Parses an ONNX file into a TensorRT network, or reports the parser's error with the node's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmatk_runtime.errors import BackendError
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.messages import Messages


def parse_network(trt: TensorRt, builder: Any, onnx: Path, messages: Messages) -> Any:
    """Read ``onnx`` into a network whose types are the graph's own.

    Raises:
        BackendError: the parser refuses it; names the node and says what is wrong with it.
    """
    network = builder.create_network(1 << int(strong_typing(trt)))
    parser = trt.module.OnnxParser(network, messages.log)
    if parser.parse_from_file(str(onnx)):
        return network
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    words = "; ".join(_describe(error) for error in errors) or messages.last()
    raise BackendError(
        f"{trt.title} cannot read {onnx}: {words}",
        "export the bundle again with this version of rmatk: rmatk export RUN -o BUNDLE",
    )


def strong_typing(trt: TensorRt) -> Any:
    """The flag for networks whose types are the graph's own; TensorRT 11 and RTX have no others.

    Raises:
        BackendError: TensorRT 8, which would choose every layer's precision itself, LayerNorm's too
            (NVIDIA/TensorRT #2709: CLIP's accuracy .84 -> .15).
    """
    flag = trt.member("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
    if flag is None:
        raise BackendError(
            f"{trt.title} has no strongly typed networks: it would choose every layer's precision itself",
            "on a Jetson, update to JetPack 6.1 or newer (TensorRT 10.3)",
        )
    return flag


def _describe(error: Any) -> str:
    """``node 'blocks.0.attn' (Attention): ...``, where it is a node's."""
    if name := error.node_name():
        return f"node {name!r} ({error.node_operator()}): {error.desc()}"
    return str(error.desc())
