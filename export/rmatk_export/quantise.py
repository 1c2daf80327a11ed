"""int8 graphs: Q/DQ pairs around the products of the blocks, as many blocks as accuracy allows.

The patch convolution, LayerNorm, attention's own products, softmax, the projection and the final norm stay
float. Where accuracy on the validation shots drops by more than the budget, the most sensitive blocks stay
float too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from rmatk_export.calibrate import Int8Product, calibrate, products
from rmatk_export.storage import save_graph
from rmatk_export.writer import Writer
from rmatk_runtime.backends.onnx_runtime import create_session, run_session
from rmatk_runtime.errors import ExportError
from rmatk_runtime.labels import ClassMatrix
from rmatk_runtime.preprocess import Float32

BUDGET = 0.005  # accuracy that int8 may cost on the validation shots, as a share
_BATCH = 16


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
    int8 = calibrate(model, calibration.images)
    blocks = sorted({_block(name) for name in int8})

    def accuracy(embeddings: Float32) -> float:
        return float(((embeddings @ classes.embeddings.T).argmax(axis=1) == calibration.labels).mean())

    reference = _embed(model, calibration.shots)
    wanted = accuracy(reference) - BUDGET
    kept: list[int] = []
    order: list[int] | None = None
    while len(kept) < len(blocks):
        candidate = quantise(model, int8, keep=kept)
        found = accuracy(_embed(candidate, calibration.shots))
        if found >= wanted:
            chosen = Quantisation(
                float_blocks=tuple(sorted(kept)),
                images=len(calibration.labels),
                accuracy_fp32=accuracy(reference),
                accuracy_int8=found,
            )
            return candidate, chosen
        order = order or _by_sensitivity(model, int8, calibration.shots, reference, blocks)
        kept.append(order[len(kept)])
    raise ExportError(
        f"int8 costs more than {BUDGET:.1%} of accuracy on {len(calibration.labels)} photos, "
        "whichever blocks stay float",
        "export fp16 instead: --precision fp16",
    )


def quantise(
    model: onnx.ModelProto, int8: Mapping[str, Int8Product], *, keep: Collection[int] = ()
) -> onnx.ModelProto:
    """The graph with Q/DQ around the products of every block but those in ``keep``."""
    chosen = {node.name for node in products(model) if _block(node.name) not in keep}
    w = Writer()
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.name in chosen:
            copy.input[:] = _through_int8(w, node, int8[node.name])
        w.nodes.append(copy)
    replaced = {node.input[1] for node in products(model) if node.name in chosen}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(w.nodes)
    floats = (weight for weight in model.graph.initializer if weight.name not in replaced)
    result.graph.initializer.extend([*floats, *w.weights.values()])
    return result


def _through_int8(w: Writer, node: onnx.NodeProto, int8: Int8Product) -> list[str]:
    """The names of a product's input and weight, each dequantised."""
    x, weight = node.input
    zero = w.weight("int8.zero", np.array(0, dtype=np.int8))
    step = w.weight(f"{x}.step", np.array(int8.input_step))
    quantised = w.op("QuantizeLinear", f"{x}.int8", x, step, zero)
    steps = w.weight(f"{weight}.steps", int8.weight_steps)
    zeros = w.weight(f"int8.zeros.{len(int8.weight_steps)}", np.zeros(len(int8.weight_steps), dtype=np.int8))
    held = w.weight(f"{weight}.int8", int8.weight)
    return [
        w.op("DequantizeLinear", f"{x}.dequantised", quantised, step, zero),
        w.op("DequantizeLinear", f"{weight}.dequantised", held, steps, zeros, axis=1),
    ]


def _block(name: str) -> int:
    """``blocks.3.mlp_in.matmul`` -> 3."""
    return int(name.split(".")[1])


def _by_sensitivity(
    model: onnx.ModelProto,
    int8: Mapping[str, Int8Product],
    shots: Float32,
    reference: Float32,
    blocks: list[int],
) -> list[int]:
    """Blocks, the one whose quantisation alone turns the embeddings most first."""

    def turned(block: int) -> float:
        alone = quantise(model, int8, keep=[other for other in blocks if other != block])
        return float(1.0 - (_embed(alone, shots) * reference).sum(axis=1).mean())

    return sorted(blocks, key=turned, reverse=True)


def _embed(model: onnx.ModelProto, images: Float32) -> Float32:
    """(N, 3, H, W) -> (N, D) on the CPU."""
    with tempfile.TemporaryDirectory(prefix="rmatk-int8-") as folder:
        path = Path(folder) / "graph.onnx"
        save_graph(model, path)
        session = create_session(path)
    return run_session(session, images, _BATCH)
