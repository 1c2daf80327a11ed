"""What a written graph must satisfy before anybody trusts it, with failures a person can read."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import TensorProto, numpy_helper

from rmatk_export.graph import IR_VERSION, OPSET
from rmatk_export.storage import weights_as_inputs
from rmatk_export.weights import AttentionPool, FoldedBlock, FoldedTower, ImageStem, Norm, TextStem, walk
from rmatk_runtime.errors import ExportError

STANDARD_DOMAINS = ("", "ai.onnx")


def checked(model: onnx.ModelProto, tower: FoldedTower[ImageStem] | FoldedTower[TextStem]) -> onnx.ModelProto:
    """``model``, after checking it against the tower it was written from.

    Raises:
        ExportError: naming the rule that does not hold and where.
    """
    try:
        onnx.checker.check_model(weights_as_inputs(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph {model.graph.name} is not valid ONNX: {error}") from error
    _check_versions(model)
    _check_types(model)
    _check_precise_parts(model)
    _check_norms(model, sum(isinstance(part, Norm) for part in walk(tower)))
    _check_attention(model, tower.blocks, pooling=isinstance(tower.head.pool, AttentionPool))
    return model


def _check_versions(model: onnx.ModelProto) -> None:
    imports = {entry.domain: entry.version for entry in model.opset_import}
    if imports != {"": OPSET} or model.ir_version != IR_VERSION:
        raise ExportError(
            f"{model.graph.name}: expected opset {OPSET} alone, IR {IR_VERSION}, found {imports}"
        )
    foreign = {node.domain for node in model.graph.node} - set(STANDARD_DOMAINS)
    if foreign:
        raise ExportError(f"{model.graph.name}: operators of the domains {sorted(foreign)}")


def _check_types(model: onnx.ModelProto) -> None:
    """No float64: TensorRT has no such type, and one double constant doubles a path unseen."""
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.DOUBLE:
            raise ExportError(f"{model.graph.name}: {weight.name} is float64")


def _check_precise_parts(model: onnx.ModelProto) -> None:
    """LayerNorm, softmax, the final norm and both ends are float32 in every precision (TensorRT #2781)."""
    inferred = onnx.shape_inference.infer_shapes(weights_as_inputs(model), strict_mode=True)
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.graph.value_info, *model.graph.input, *model.graph.output)
    }
    for node in model.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax", "ReduceL2"):
            found = kinds[node.input[0]]
            if found != TensorProto.FLOAT:
                kind = TensorProto.DataType.Name(found)
                raise ExportError(f"{model.graph.name}: {node.name} computes in {kind}, not FLOAT")
    if kinds["embeddings"] != TensorProto.FLOAT:
        raise ExportError(f"{model.graph.name}: embeddings are not float32")


def _check_norms(model: onnx.ModelProto, expected: int) -> None:
    """One LayerNormalization node per LayerNorm (TensorRT #2781: taken apart, it overflows in fp16)."""
    kinds = Counter(node.op_type for node in model.graph.node)
    if kinds["LayerNormalization"] != expected:
        raise ExportError(
            f"{model.graph.name}: {kinds['LayerNormalization']} LayerNormalization nodes for {expected} norms"
        )


def _check_attention(model: onnx.ModelProto, blocks: tuple[FoldedBlock, ...], *, pooling: bool) -> None:
    """The whole scale on q, none on k or the scores (TensorRT #4328, #4333: both scaled goes wrong)."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    weights = {weight.name: weight for weight in model.graph.initializer}
    softmaxes = [node for node in model.graph.node if node.op_type == "Softmax"]
    if len(softmaxes) != len(blocks) + pooling:
        raise ExportError(f"{model.graph.name}: {len(softmaxes)} Softmax nodes for {len(blocks)} blocks")
    for block, softmax in zip(blocks, softmaxes, strict=False):
        scores = made_by[softmax.input[0]]
        while scores.op_type in ("Add", "Cast"):
            scores = made_by[scores.input[0]]
        if scores.op_type != "MatMul":
            raise ExportError(
                f"{softmax.name}: expected scores straight from a MatMul, found {scores.op_type}"
            )
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


def _before_reshaping(made_by: dict[str, onnx.NodeProto], name: str) -> onnx.NodeProto:
    node = made_by[name]
    while node.op_type in ("Reshape", "Transpose", "Gather", "Cast"):
        node = made_by[node.input[0]]
    return node
