"""Rules that every written graph must satisfy, with readable failures.

Each rule stands for what went wrong elsewhere; the issue is cited where the rule is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from rmatk_export.graph.encoder import IR_VERSION, OPSET
from rmatk_export.graph.storage import weights_as_inputs
from rmatk_export.graph.values import Value, check_values, infer
from rmatk_export.graph.writer import HALF_MAX
from rmatk_export.weights import AttentionPool, FoldedBlock, FoldedTower, ImageStem, Norm, TextStem, walk
from rmatk_runtime.bundle.graph_file import OPERATORS
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.errors import ExportError

STANDARD_DOMAINS = ("", "ai.onnx")


def checked(
    model: onnx.ModelProto,
    tower: FoldedTower[ImageStem] | FoldedTower[TextStem],
    precision: Precision = "fp32",
) -> onnx.ModelProto:
    """``model``, after checking it against the tower it was written from, in the ``precision`` asked for.

    Raises:
        ExportError: naming the rule that does not hold and where.
    """
    try:
        onnx.checker.check_model(weights_as_inputs(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph {model.graph.name} is not valid ONNX: {error}") from error
    _check_versions(model)
    _check_finite(model)
    values = infer(model)
    check_values(model, values, constant=isinstance(tower.stem, ImageStem))
    _check_precise_parts(model, values)
    _check_precision(model, values, precision)
    _check_norms(model, sum(isinstance(part, Norm) for part in walk(tower)))
    _check_attention(model, tower.blocks, pooling=isinstance(tower.head.pool, AttentionPool))
    return model


def _check_versions(model: onnx.ModelProto) -> None:
    """Read by TensorRT from 10.3 on (opset 20) and by ONNX Runtime from 1.18 on (opset 21, IR 10)."""
    imports = {entry.domain: entry.version for entry in model.opset_import}
    if imports != {"": OPSET} or model.ir_version != IR_VERSION:
        raise ExportError(
            f"{model.graph.name}: expected opset {OPSET} alone, IR {IR_VERSION}, "
            f"found {imports}, IR {model.ir_version}"
        )
    foreign = {node.domain for node in model.graph.node} - set(STANDARD_DOMAINS)
    if foreign or model.functions:
        raise ExportError(f"{model.graph.name}: operators of its own, or of the domains {sorted(foreign)}")
    for node in model.graph.node:
        if node.op_type not in OPERATORS:
            raise ExportError(
                f"{model.graph.name}: {node.name} is of a kind not written here: {node.op_type}"
            )


def _check_finite(model: onnx.ModelProto) -> None:
    for weight in model.graph.initializer:
        value = numpy_helper.to_array(weight)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ExportError(f"{model.graph.name}: {weight.name} holds a number that is not finite")


def _check_precise_parts(model: onnx.ModelProto, values: Mapping[str, Value]) -> None:
    """LayerNorm, softmax, the final norm and both ends are float32 in every precision: in float16 their sums
    overflow (NVIDIA/TensorRT #2781, #2564, #4540; triton-inference-server/server #4105).
    """
    for node in model.graph.node:
        precise = node.op_type in ("LayerNormalization", "Softmax", "ReduceL2")
        if precise and (found := values[node.input[0]].kind) != "FLOAT":
            raise ExportError(f"{model.graph.name}: {node.name} computes in {found}, not FLOAT")
    if values["embeddings"].kind != "FLOAT":
        raise ExportError(f"{model.graph.name}: embeddings are not float32")


def _check_precision(model: onnx.ModelProto, values: Mapping[str, Value], precision: Precision) -> None:
    """What was asked for is what is written: half was built as float32 in silence elsewhere
    (amanharshx/vision-export-studio #104), and engines have no flags to mend it (NVIDIA/TensorRT #2709).
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Conv"):
            found, wanted = values[node.output[0]].kind, "FLOAT16" if precision == "fp16" else "FLOAT"
            if found != wanted and not (found == "FLOAT" and _beyond_half(weights, node.input[1])):
                raise ExportError(f"{model.graph.name}: {node.name} computes in {found}, not {wanted}")
    steps = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if bool(steps) != (precision == "int8"):
        raise ExportError(f"{model.graph.name}: {len(steps)} quantising nodes in a graph of {precision}")
    for node in steps:
        # TensorRT's parser refuses others: "Non-zero zero point is not supported"
        if len(node.input) < 3 or np.any(numpy_helper.to_array(weights[node.input[2]])):
            raise ExportError(f"{model.graph.name}: the zero point of {node.name} is not 0")


def _beyond_half(weights: Mapping[str, onnx.TensorProto], name: str) -> bool:
    """Whether a weight or its bias is beyond float16's range, so that their product stays float32."""
    pair = (weights.get(name), weights.get(f"{name.removesuffix('weight')}bias"))
    return any(
        np.abs(numpy_helper.to_array(weight)).max(initial=0) > HALF_MAX
        for weight in pair
        if weight is not None
    )


def _check_norms(model: onnx.ModelProto, expected: int) -> None:
    """One LayerNormalization node per LayerNorm: taken apart, no engine sees it, and it overflows in float16
    (NVIDIA/TensorRT #2781, #4493; roboflow/rf-detr #176).
    """
    kinds = Counter(node.op_type for node in model.graph.node)
    if kinds["LayerNormalization"] != expected:
        raise ExportError(
            f"{model.graph.name}: {kinds['LayerNormalization']} LayerNormalization nodes for {expected} norms"
        )


def _check_attention(model: onnx.ModelProto, blocks: tuple[FoldedBlock, ...], *, pooling: bool) -> None:
    """The whole scale on q, none on k or the scores: both scaled is wrong in TensorRT 10.3 to 10.7
    (NVIDIA/TensorRT #4328, #4333, #4419). A pooling query is a constant that holds it already.
    """
    made_by = {output: node for node in model.graph.node for output in node.output}
    weights = {weight.name: weight for weight in model.graph.initializer}
    softmaxes = [node for node in model.graph.node if node.op_type == "Softmax"]
    if len(softmaxes) != len(blocks) + pooling:
        raise ExportError(f"{model.graph.name}: {len(softmaxes)} Softmax nodes for {len(blocks)} blocks")
    for block, softmax in zip(blocks, softmaxes, strict=False):
        scores = _scores_of(made_by, softmax)
        query, key = (_before_reshaping(made_by, name) for name in scores.input)
        wanted = (block.width // block.heads) ** -0.5
        scale = None
        if query.op_type == "Mul" and query.input[1] in weights:
            scale = float(numpy_helper.to_array(weights[query.input[1]]))
        if scale is None or abs(scale - wanted) > 1e-3 * wanted or key.op_type == "Mul":
            raise ExportError(
                f"{scores.name}: expected q scaled by {wanted:.6g} and k not at all, found "
                f"q by {scale} and k from {key.op_type}"
            )
    if pooling:
        scores = _scores_of(made_by, softmaxes[-1])
        key = _before_reshaping(made_by, scores.input[1])
        if scores.input[0] not in weights or key.op_type == "Mul":
            raise ExportError(
                f"{scores.name}: expected a constant query and k not scaled, found k from {key.op_type}"
            )


def _scores_of(made_by: Mapping[str, onnx.NodeProto], softmax: onnx.NodeProto) -> onnx.NodeProto:
    """The product whose result, masked or not, a softmax normalises."""
    scores = made_by[softmax.input[0]]
    while scores.op_type in ("Add", "Cast"):
        scores = made_by[scores.input[0]]
    if scores.op_type != "MatMul":
        raise ExportError(f"{softmax.name}: expected scores straight from a MatMul, found {scores.op_type}")
    return scores


def _before_reshaping(made_by: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto:
    node = made_by[name]
    while node.op_type in ("Reshape", "Transpose", "Gather", "Cast"):
        node = made_by[node.input[0]]
    return node
