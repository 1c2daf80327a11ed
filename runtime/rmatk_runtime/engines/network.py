"""An ONNX file as a TensorRT network, or the parser's complaint with the name of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmatk_runtime.engines.messages import Messages
from rmatk_runtime.engines.tensorrt import TensorRt
from rmatk_runtime.errors import BackendError
from rmatk_runtime.manifest import Precision


def parse_network(trt: TensorRt, builder: Any, onnx: Path, messages: Messages) -> Any:
    """Read ``onnx`` into a network whose types are the graph's own.

    Raises:
        BackendError: the parser refuses it; names the node and says what is wrong with it.
    """
    network = builder.create_network(_creation_flags(trt))
    parser = trt.module.OnnxParser(network, messages.logger)
    if parser.parse_from_file(str(onnx)):
        return network
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    words = "; ".join(_describe(error) for error in errors) or messages.last()
    raise BackendError(
        f"{trt.title} cannot read {onnx}: {words}",
        "export the bundle again with this version of rmatk: rmatk export RUN -o BUNDLE",
    )


def check_precision(trt: TensorRt, precision: Precision) -> None:
    """Refuse a precision that this TensorRT would not keep to.

    Before 10 there are only builder flags, which let it choose any layer's precision itself, LayerNorm's too
    (NVIDIA/TensorRT #2709: accuracy .84 -> .15). float32 needs no flag.

    Raises:
        BackendError: other than fp32 without strongly typed networks.
    """
    if precision != "fp32" and trt.strongly_typed is None:
        raise BackendError(
            f"{trt.title} has no strongly typed networks: it would choose every layer's precision itself, "
            f"whatever the {precision} graph says",
            "build fp32 here (--precision fp32), or use TensorRT 10 or newer (JetPack 6.1)",
        )


def _creation_flags(trt: TensorRt) -> int:
    """Strongly typed where it is a flag or the only kind; else (8.x) the explicit batch of ONNX."""
    typed = trt.strongly_typed
    flag: Any = trt.member("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH") if typed is None else typed
    return 1 << int(flag)


def _describe(error: Any) -> str:
    """``node 'blocks.0.attn' (MatMul): ...``; TensorRT 8 knows a node's number only."""
    name, operator = (getattr(error, member, str)() for member in ("node_name", "node_operator"))
    if name:
        return f"node {name!r} ({operator}): {error.desc()}"
    return f"node {error.node()}: {error.desc()}" if error.node() >= 0 else str(error.desc())
