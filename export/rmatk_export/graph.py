"""Writing folded towers as ONNX graphs, node by node.

The graphs are built with ``onnx.helper`` rather than traced from PyTorch. A tower is a fixed recipe of a few
operators, and writing it down gives what tracing has to be checked for afterwards: the same bytes from every
PyTorch version, names that say where a node belongs, shapes that are constants but for the batch, LayerNorm
as one node (TensorRT #2781), and attention with the whole scale on q. Tracing open_clip scales q and k by
sqrt(scale) each, the pattern with which TensorRT 10.3-10.7 returns wrong numbers (TensorRT #4328, #4333).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rmatk_export.weights import Array, FoldedBlock, FoldedTower, Head, ImageStem, Linear, Norm, TextStem
from rmatk_runtime import __version__

OPSET = 18  # TensorRT 10.3's parser reads up to 20; 17 brought LayerNormalization
IR_VERSION = 8  # what opset 18 came with: read by every ONNX Runtime since 1.14
MASKED = -1e4  # added to a masked score: exp() of it is 0 in every precision, and fp16 can hold it


class _Writer:
    """Collects nodes and weights; every method adds one operator and returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, value: Array) -> str:
        """Store an array under ``name``, in its own dtype."""
        self.weights[name] = numpy_helper.from_array(value, name)
        return name

    def constant(self, *values: int) -> str:
        """A shared int64 vector (shapes, axes, indices)."""
        name = "const." + ("x".join(str(value) for value in values) or "empty")
        return self.weight(name, np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A shared float32 scalar."""
        return self.weight(f"scalar.{value:.9g}", np.array(value, dtype=np.float32))

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output; both carry ``name``."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, name: str, x: str, linear: Linear) -> str:
        product = self.op("MatMul", f"{name}.matmul", x, self.weight(f"{name}.weight", linear.weight))
        return self.op("Add", name, product, self.weight(f"{name}.bias", linear.bias))

    def norm(self, name: str, x: str, norm: Norm) -> str:
        return self.op(
            "LayerNormalization",
            name,
            x,
            self.weight(f"{name}.weight", norm.weight),
            self.weight(f"{name}.bias", norm.bias),
            axis=-1,
            epsilon=norm.eps,
        )

    def gelu(self, name: str, x: str) -> str:
        """x / 2 * (1 + erf(x / sqrt 2)), in the order of operators that engines recognise and fuse."""
        ratio = self.op("Div", f"{name}.div", x, self.scalar(math.sqrt(2.0)))
        shifted = self.op("Add", f"{name}.add", self.op("Erf", f"{name}.erf", ratio), self.scalar(1.0))
        return self.op("Mul", name, self.op("Mul", f"{name}.mul", x, shifted), self.scalar(0.5))

    def quick_gelu(self, name: str, x: str) -> str:
        """x * sigmoid(1.702 x)."""
        gate = self.op("Sigmoid", f"{name}.sigmoid", self.op("Mul", f"{name}.mul", x, self.scalar(1.702)))
        return self.op("Mul", name, x, gate)


@dataclass(frozen=True)
class _Sequence:
    """What blocks need to know of their sequence: its ``length`` L, 0 where reshapes copy it at run time,
    and the name of the additive attention ``mask``, or None."""

    length: int
    mask: str | None = None


def image_graph(tower: FoldedTower[ImageStem]) -> onnx.ModelProto:
    """The image encoder: ``images`` (N, 3, H, W) normalised -> ``embeddings`` (N, E) unit length.

    Both are float32; N is dynamic; every other size is a constant.
    """
    w = _Writer()
    x = _image_stem(w, tower.stem)
    sequence = _Sequence(len(tower.stem.positions))
    *blocks, last = tower.blocks
    for index, block in enumerate(blocks):
        x = _block(w, f"blocks.{index}", x, block, sequence)
    # Only the class token of the last block is read: its other tokens need keys and values, nothing more.
    x = _block(w, f"blocks.{len(blocks)}", x, last, sequence, class_token_only=tower.head.pool == "class")
    _head(w, x, tower.head)
    height, width = tower.stem.image_size
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, height, width])
    return _model(w, "rmatk_image_encoder", images, _embedding_width(tower.head))


def text_graph(tower: FoldedTower[TextStem]) -> onnx.ModelProto:
    """The text encoder: ``tokens`` (N, L) int64 -> ``embeddings`` (N, E) unit length; N, L dynamic."""
    w = _Writer()
    context = len(tower.stem.positions)
    length = w.op("Shape", "length", "tokens", start=1, end=2)
    zero = w.constant(0)
    table = w.weight("tokens.weight", tower.stem.tokens)
    positions = w.weight("positions.weight", tower.stem.positions)
    x = w.op("Gather", "tokens.embedded", table, "tokens", axis=0)
    x = w.op("Add", "stem", x, w.op("Slice", "positions", positions, zero, length, zero))
    causal = w.weight("mask.weight", np.triu(np.full((context, context), MASKED, np.float32), 1))
    square = w.op("Concat", "mask.size", length, length, axis=0)
    mask = w.op("Slice", "mask", causal, w.constant(0, 0), square, w.constant(0, 1))
    for index, block in enumerate(tower.blocks):
        x = _block(w, f"blocks.{index}", x, block, _Sequence(0, mask))
    _head(w, _end_of_text(w, x, tower.stem.end_id), tower.head)
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N", "L"])
    return _model(w, "rmatk_text_encoder", tokens, _embedding_width(tower.head))


def _image_stem(w: _Writer, stem: ImageStem) -> str:
    width, _, patch_height, patch_width = stem.patch.shape
    tensors = ["images", w.weight("patch.weight", stem.patch)]
    if stem.patch_bias is not None:
        tensors.append(w.weight("patch.bias", stem.patch_bias))
    patch = [patch_height, patch_width]
    grid = w.op("Conv", "patch", *tensors, kernel_shape=patch, strides=patch)
    flat = w.op("Reshape", "patch.flat", grid, w.constant(0, width, len(stem.positions) - 1))
    tokens = w.op("Transpose", "patch.tokens", flat, perm=[0, 2, 1])
    # A zero row in front plus positions that already hold the class token: the same sums as concatenating
    # it, without expanding it to the batch at run time (which would need the input's shape).
    padded = w.op("Pad", "patch.padded", tokens, w.constant(0, 1, 0, 0, 0, 0))
    positions = stem.positions.copy()
    positions[0] += stem.class_token
    x = w.op("Add", "stem", padded, w.weight("positions.weight", positions[None]))
    return x if stem.norm is None else w.norm("norm_pre", x, stem.norm)


def _block(
    w: _Writer, name: str, x: str, block: FoldedBlock, sequence: _Sequence, *, class_token_only: bool = False
) -> str:
    """One folded block; ``class_token_only`` returns (N, 1, D): the first token's output and no other."""
    width, rank = block.width, block.rank
    wide = w.linear(f"{name}.wide_in", w.norm(f"{name}.norm_1", x, block.norm_1), block.wide_in)
    parts = [f"{name}.{part}" for part in ("q", "k", "v", "d")][: 4 if rank else 3]
    sizes = w.constant(*([width] * 3 + ([rank] if rank else [])))
    w.nodes.append(helper.make_node("Split", [wide, sizes], parts, name=f"{name}.split", axis=-1))
    query, down, length = parts[0], parts[-1], sequence.length
    if class_token_only:
        first, length = w.constant(0), 1
        query = w.op("Gather", f"{name}.q.first", query, first, axis=1)
        x = w.op("Gather", f"{name}.x.first", x, first, axis=1)
        if rank:
            down = w.op("Gather", f"{name}.d.first", down, first, axis=1)
    attended = _attention(w, name, (query, parts[1], parts[2]), block, sequence, length)
    x = w.op("Add", f"{name}.mid", x, w.linear(f"{name}.attention_out", attended, block.attention_out))
    hidden = w.linear(f"{name}.mlp_in", w.norm(f"{name}.norm_2", x, block.norm_2), block.mlp_in)
    act = w.quick_gelu if block.activation == "quick_gelu" else w.gelu
    hidden = act(f"{name}.act", hidden)
    if rank:
        hidden = w.op("Concat", f"{name}.join", hidden, w.gelu(f"{name}.adapter_act", down), axis=-1)
    return w.op("Add", f"{name}.out", x, w.linear(f"{name}.wide_out", hidden, block.wide_out))


def _attention(
    w: _Writer, name: str, qkv: tuple[str, str, str], block: FoldedBlock, sequence: _Sequence, queries: int
) -> str:
    """softmax((q * scale) k^T + mask) v per head; q (N, ``queries``, D), k and v (N, L, D)."""
    heads, head_width = block.heads, block.width // block.heads
    query = w.op("Mul", f"{name}.q.scaled", qkv[0], w.scalar(head_width**-0.5))

    def split_heads(part: str, x: str, length: int, perm: list[int]) -> str:
        apart = w.op("Reshape", f"{name}.{part}.heads", x, w.constant(0, length, heads, head_width))
        return w.op("Transpose", f"{name}.{part}.ready", apart, perm=perm)

    q = split_heads("q", query, queries, [0, 2, 1, 3])
    k = split_heads("k", qkv[1], sequence.length, [0, 2, 3, 1])
    v = split_heads("v", qkv[2], sequence.length, [0, 2, 1, 3])
    scores = w.op("MatMul", f"{name}.scores", q, k)
    if sequence.mask is not None:
        scores = w.op("Add", f"{name}.scores.masked", scores, sequence.mask)
    mixed = w.op("MatMul", f"{name}.mixed", w.op("Softmax", f"{name}.softmax", scores, axis=-1), v)
    together = w.op("Transpose", f"{name}.mixed.tokens", mixed, perm=[0, 2, 1, 3])
    return w.op("Reshape", f"{name}.attended", together, w.constant(0, queries, block.width))


def _end_of_text(w: _Writer, x: str, end_id: int | None) -> str:
    """(N, L, D) -> (N, D) at the end of text: the first largest id, or the first ``end_id``."""
    ids = w.op("Cast", "end.ids", "tokens", to=TensorProto.INT32)
    if end_id is not None:
        marker = w.weight("end.id", np.array(end_id, dtype=np.int32))
        ids = w.op("Cast", "end.found", w.op("Equal", "end.equal", ids, marker), to=TensorProto.INT32)
    index = w.op("ArgMax", "end.index", ids, axis=1, keepdims=1)
    return w.op("GatherND", "end.token", x, index, batch_dims=1)


def _head(w: _Writer, x: str, head: Head) -> None:
    """Pool, norm, project, scale to unit length, into ``embeddings``."""
    if head.pool == "class":
        x = w.op("Squeeze", "pool", x, w.constant(1))
    elif head.pool == "mean":
        x = w.norm("norm_post", x, head.norm) if head.norm_first else x
        ends = (w.constant(1), w.weight("const.last", np.array([2**31 - 1], dtype=np.int64)))
        x = w.op(
            "ReduceMean", "pool", w.op("Slice", "patches", x, *ends, w.constant(1)), w.constant(1), keepdims=0
        )
    if not (head.pool == "mean" and head.norm_first):
        x = w.norm("norm_post", x, head.norm)
    if head.projection is not None:
        x = w.op("MatMul", "projection", x, w.weight("projection.weight", head.projection))
    if head.projection_bias is not None:
        x = w.op("Add", "projection.sum", x, w.weight("projection.bias", head.projection_bias))
    length = w.op("ReduceL2", "length.l2", x, w.constant(-1), keepdims=1)
    w.op("Div", "embeddings", x, w.op("Max", "length.safe", length, w.scalar(1e-12)))


def _embedding_width(head: Head) -> int:
    return int(len(head.norm.weight) if head.projection is None else head.projection.shape[1])


def _model(w: _Writer, name: str, source: onnx.ValueInfoProto, width: int) -> onnx.ModelProto:
    target = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", width])
    graph = helper.make_graph(w.nodes, name, [source], [target], list(w.weights.values()))
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rmatk",
        producer_version=__version__,
    )
