"""int8 graphs: symmetric Q/DQ around the products of the blocks, calibrated on the user's own photos.

Made by ONNX Runtime's quantiser with what TensorRT's explicit quantisation asks for: zero point 0 everywhere
(its parser refuses others), one scale per output channel of a weight, Q/DQ nodes in the graph. The patch
convolution, LayerNorm, attention's own products, softmax, the projection and the final norm stay float. Where
accuracy on the validation shots drops by more than the budget, the most sensitive blocks stay float too.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from rmatk_runtime.backends.onnx_runtime import create_session
from rmatk_runtime.errors import ExportError
from rmatk_runtime.labels import ClassMatrix
from rmatk_runtime.preprocess import Float32

BUDGET = 0.005  # accuracy that int8 may cost on the validation shots, as a share
_BATCH = 16
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    # A product's result is summed in float: quantising it once more would only lose accuracy.
    "OpTypesToExcludeOutputQuantization": ["MatMul"],
}


@dataclass(frozen=True)
class CalibrationPhotos:
    """Photos for int8: ``images`` (N, 3, H, W) float32 normalised, on which ranges are measured, and
    ``shots`` (M, 3, H, W) with class indices ``labels`` (M,), on which accuracy is judged: validation shots
    where the run has any."""

    images: Float32
    shots: Float32
    labels: npt.NDArray[np.int64]


class Quantisation(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen: blocks left in float, and top-1 accuracies in [0, 1] on ``images`` shots."""

    float_blocks: tuple[int, ...]
    images: int
    accuracy_fp32: float
    accuracy_int8: float


def quantise_within_budget(
    model: onnx.ModelProto, calibration: CalibrationPhotos, classes: ClassMatrix
) -> tuple[onnx.ModelProto, Quantisation]:
    """Quantise as many blocks as the budget allows.

    Args:
        model: a float32 image graph.
        calibration: photos to measure ranges on and to judge by.
        classes: the class matrix (C, D).

    Raises:
        ExportError: not even one quantised block keeps within the budget.
    """
    blocks = sorted({int(node.name.split(".")[1]) for node in model.graph.node if _is_product(node)})

    def accuracy(embeddings: Float32) -> float:
        return float(((embeddings @ classes.embeddings.T).argmax(axis=1) == calibration.labels).mean())

    reference = _embed(model, calibration.shots)
    wanted = accuracy(reference) - BUDGET
    kept: list[int] = []
    order: list[int] | None = None
    while len(kept) < len(blocks):
        candidate = quantise(model, calibration.images, keep=kept)
        found = accuracy(_embed(candidate, calibration.shots))
        if found >= wanted:
            chosen = Quantisation(
                float_blocks=tuple(sorted(kept)),
                images=len(calibration.labels),
                accuracy_fp32=accuracy(reference),
                accuracy_int8=found,
            )
            return candidate, chosen
        order = order or _by_sensitivity(model, calibration, reference, blocks)
        kept.append(order[len(kept)])
    raise ExportError(
        f"int8 costs more than {BUDGET:.1%} of accuracy on {len(calibration.labels)} photos, "
        "whichever blocks stay float",
        "export fp16 instead: --precision fp16",
    )


def quantise(model: onnx.ModelProto, calibration: Float32, *, keep: Collection[int] = ()) -> onnx.ModelProto:
    """The graph with Q/DQ around the products of every block but those in ``keep``."""
    products = [n.name for n in model.graph.node if _is_product(n) and int(n.name.split(".")[1]) not in keep]
    with tempfile.TemporaryDirectory(prefix="rmatk-int8-") as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        with _without_advice():
            quantize_static(
                str(source),
                str(target),
                _Reader(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=products,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=_OPTIONS,
            )
        result = onnx.load(str(target))
    result.ir_version = model.ir_version
    del result.opset_import[:]  # the quantiser adds a domain that it then does not use
    result.opset_import.extend(model.opset_import)
    return result


@contextmanager
def _without_advice() -> Iterator[None]:
    """The quantiser advises, on the root logger, a pre-processing that written graphs do not need."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _is_product(node: onnx.NodeProto) -> bool:
    """A block's product with a weight (named ``blocks.3.mlp_in.matmul``), not one of attention's own."""
    return node.op_type == "MatMul" and node.name.startswith("blocks.") and node.name.endswith(".matmul")


def _by_sensitivity(
    model: onnx.ModelProto, calibration: CalibrationPhotos, reference: Float32, blocks: list[int]
) -> list[int]:
    """Blocks, the one whose quantisation alone turns the embeddings most first."""

    def turned(block: int) -> float:
        alone = quantise(model, calibration.images, keep=[other for other in blocks if other != block])
        return float(1.0 - (_embed(alone, calibration.shots) * reference).sum(axis=1).mean())

    return sorted(blocks, key=turned, reverse=True)


def _embed(model: onnx.ModelProto, images: Float32) -> Float32:
    """(N, 3, H, W) -> (N, D) on the CPU."""
    with tempfile.TemporaryDirectory(prefix="rmatk-int8-") as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, str(path))
        session = create_session(path)
        parts = [session.run(None, {"images": part})[0] for part in _parts(images)]
    return np.concatenate(parts)


def _parts(images: Float32) -> Iterator[Float32]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the calibration photos to ONNX Runtime's quantiser."""

    def __init__(self, images: Float32) -> None:
        self._parts = _parts(images)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None."""
        part = next(self._parts, None)
        return None if part is None else {"images": part}
