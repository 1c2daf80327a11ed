"""Writes folded towers as ONNX graphs, node by node.

The graphs are built with ``onnx.helper`` rather than traced from PyTorch. A tower is a fixed recipe of a few
operators, and writing it down gives what tracing has to be checked for afterwards: the same bytes from every
PyTorch version, names that say where a node belongs, shapes that are constants but for the batch, LayerNorm
as one node (TensorRT #2781), and attention with the whole scale on q. Tracing open_clip scales q and k by
sqrt(scale) each, the pattern with which TensorRT 10.3-10.7 returns wrong numbers (TensorRT #4328, #4333).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from rmatk_export.graph.writer import Writer
from rmatk_export.weights import (
    AttentionPool,
    ConvBlock,
    FoldedBlock,
    FoldedTower,
    Head,
    ImageStem,
    Norm,
    Rotation,
    TextStem,
)
from rmatk_runtime import __version__

OPSET = 18  # TensorRT 10.3's parser reads up to 20; 17 brought LayerNormalization
IR_VERSION = 8  # what opset 18 came with: read by every ONNX Runtime since 1.14
MASKED = -1e4  # added to a masked score: exp() of it is 0 in every precision, and fp16 can hold it


@dataclass(frozen=True)
class _Sequence:
    """What blocks need to know of their sequence: its ``length`` L, 0 where reshapes copy it at run time,
    and the name of the additive attention ``mask``, or None."""

    length: int
    mask: str | None = None


def image_graph(tower: FoldedTower[ImageStem], *, half: bool = False) -> onnx.ModelProto:
    """The image encoder: ``images`` (N, 3, H, W) normalised -> ``embeddings`` (N, E) unit length.

    Both are float32, also where ``half`` makes the products inside float16 (see ``writer.py``); N is
    dynamic; every other size is a constant.
    """
    w = Writer(half=half)
    x = _image_stem(w, tower.stem)
    sequence = _Sequence(len(tower.stem.positions))
    *blocks, last = tower.blocks
    for index, block in enumerate(blocks):
        x = _block(w, f"blocks.{index}", x, block, sequence)
    # Only the class token of the last block is read: its other tokens need keys and values, nothing more.
    x = _block(w, f"blocks.{len(blocks)}", x, last, sequence, class_token_only=tower.head.pool == "class")
    _image_head(w, x, tower.head, sequence.length, tower.stem.class_token is not None)
    height, width = tower.stem.image_size
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, height, width])
    return _model(w, "rmatk_image_encoder", images, _embedding_width(tower.head))


def text_graph(tower: FoldedTower[TextStem], *, half: bool = False) -> onnx.ModelProto:
    """The text encoder: ``tokens`` (N, L) int64 -> ``embeddings`` (N, E) float32, unit length.

    N is dynamic; so is L where the tower is causal. Where it is not, padding counts, and L is its context.
    ``half``: see :func:`image_graph`; bundles carry the float32 graph alone, since prompts are few.
    """
    w = Writer(half=half)
    context = len(tower.stem.positions)
    table = w.weight("tokens.weight", tower.stem.tokens)
    positions = w.weight("positions.weight", tower.stem.positions)
    x = w.op("Gather", "tokens.embedded", table, "tokens", axis=0)
    sequence = _Sequence(context)
    if tower.stem.causal:
        length = w.op("Shape", "length", "tokens", start=1, end=2)
        zero = w.constant(0)
        positions = w.op("Slice", "positions", positions, zero, length, zero)
        causal = w.weight("mask.weight", np.triu(np.full((context, context), MASKED, np.float32), 1))
        square = w.op("Concat", "mask.size", length, length, axis=0)
        sequence = _Sequence(0, w.op("Slice", "mask", causal, w.constant(0, 0), square, w.constant(0, 1)))
    x = w.op("Add", "stem", x, positions)
    for index, block in enumerate(tower.blocks):
        x = _block(w, f"blocks.{index}", x, block, sequence)
    if tower.head.pool == "last":
        last = w.weight("const.last", np.array(-1, dtype=np.int64))
        pooled = w.op("Gather", "end.token", x, last, axis=1)
    else:
        pooled = _end_of_text(w, x, tower.stem.end_id)
    _project(w, w.norm("norm_post", pooled, tower.head.norm), tower.head)
    shape = ["N", "L" if tower.stem.causal else context]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, shape)
    return _model(w, "rmatk_text_encoder", tokens, _embedding_width(tower.head))


def _image_stem(w: Writer, stem: ImageStem) -> str:
    width, _, patch_height, patch_width = stem.patch.shape
    x = w.low("images")
    for index, block in enumerate(stem.convolutions):
        x = _conv_block(w, f"stem.{index}", x, block)
    tensors = [x, w.compute("patch.weight", stem.patch)]
    if stem.patch_bias is not None:
        tensors.append(w.compute("patch.bias", stem.patch_bias))
    patch = [patch_height, patch_width]
    grid = w.op("Conv", "patch", *tensors, kernel_shape=patch, strides=patch)
    patches = len(stem.positions) - (stem.class_token is not None)
    flat = w.op("Reshape", "patch.flat", grid, w.constant(0, width, patches))
    x = w.high(w.op("Transpose", "patch.tokens", flat, perm=[0, 2, 1]))
    positions = stem.positions
    if stem.class_token is not None:
        # A zero row in front plus positions that already hold the class token: the same sums as
        # concatenating it, without expanding it to the batch at run time (which needs the input's shape).
        x = w.op("Pad", "patch.padded", x, w.constant(0, 1, 0, 0, 0, 0))
        positions = positions.copy()
        positions[0] += stem.class_token
    x = w.op("Add", "stem", x, w.weight("positions.weight", positions[None]))
    return x if stem.norm is None else w.norm("norm_pre", x, stem.norm)


def _conv_block(w: Writer, name: str, x: str, block: ConvBlock) -> str:
    """(N, C, H, W) -> (N, C', H', W'), in the precision of products."""
    given = x
    for index, layer in enumerate(block.layers):
        part = f"{name}.{index}"
        tensors = [x, w.compute(f"{part}.weight", layer.weight), w.compute(f"{part}.bias", layer.bias)]
        x = w.op(
            "Conv",
            f"{part}.conv",
            *tensors,
            kernel_shape=list(layer.weight.shape[2:]),
            strides=list(layer.stride),
            pads=list(layer.pads),
            group=layer.groups,
        )
        if layer.clip is not None:
            x = w.op("Clip", f"{part}.clip", x, w.scalar(0.0), w.scalar(layer.clip))
    return w.op("Add", f"{name}.sum", x, given) if block.residual else x


def _block(
    w: Writer, name: str, x: str, block: FoldedBlock, sequence: _Sequence, *, class_token_only: bool = False
) -> str:
    """One folded block; ``class_token_only`` returns (N, 1, D): the first token's output and no other."""
    width, rank = block.width, block.rank
    u = w.low(w.norm(f"{name}.norm_1", x, block.norm_1))
    wide = w.linear(f"{name}.wide_in", u, block.wide_in)
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
    mixed = w.linear(f"{name}.attention_out", attended, block.attention_out)
    x = w.op("Add", f"{name}.mid", x, w.high(mixed))
    hidden = w.linear(f"{name}.mlp_in", w.low(w.norm(f"{name}.norm_2", x, block.norm_2)), block.mlp_in)
    hidden = w.activate(f"{name}.act", hidden, block.activation)
    if rank:
        hidden = w.op("Concat", f"{name}.join", hidden, w.gelu(f"{name}.adapter_act", down), axis=-1)
    return w.op("Add", f"{name}.out", x, w.high(w.linear(f"{name}.wide_out", hidden, block.wide_out)))


def _attention(
    w: Writer, name: str, qkv: tuple[str, str, str], block: FoldedBlock, sequence: _Sequence, queries: int
) -> str:
    """softmax((q * scale) k^T + mask) v per head; q (N, ``queries``, D), k and v (N, L, D)."""
    heads, head_width = block.heads, block.width // block.heads

    def split_heads(part: str, x: str, length: int, norm: Norm | None = None) -> str:
        x = w.op("Reshape", f"{name}.{part}.heads", x, w.constant(0, length, heads, head_width))
        return x if norm is None else w.low(w.norm(f"{name}.{part}.norm", w.high(x), norm))

    q = split_heads("q", qkv[0], queries, block.q_norm)
    k = split_heads("k", qkv[1], sequence.length, block.k_norm)
    v = split_heads("v", qkv[2], sequence.length)
    if block.rotation is not None:
        # Only the class token is ever asked for alone, and it has no place to be turned by.
        q = q if queries != sequence.length else _rotate(w, f"{name}.q", q, block.rotation)
        k = _rotate(w, f"{name}.k", k, block.rotation)
    q = w.op("Mul", f"{name}.q.scaled", q, w.scalar(head_width**-0.5))
    q = w.op("Transpose", f"{name}.q.ready", q, perm=[0, 2, 1, 3])
    k = w.op("Transpose", f"{name}.k.ready", k, perm=[0, 2, 3, 1])
    v = w.op("Transpose", f"{name}.v.ready", v, perm=[0, 2, 1, 3])
    scores = w.high(w.op("MatMul", f"{name}.scores", q, k))
    if sequence.mask is not None:
        scores = w.op("Add", f"{name}.scores.masked", scores, sequence.mask)
    weights = w.low(w.op("Softmax", f"{name}.softmax", scores, axis=-1))
    mixed = w.op("MatMul", f"{name}.mixed", weights, v)
    together = w.op("Transpose", f"{name}.mixed.tokens", mixed, perm=[0, 2, 1, 3])
    return w.op("Reshape", f"{name}.attended", together, w.constant(0, queries, block.width))


def _rotate(w: Writer, name: str, x: str, rotation: Rotation) -> str:
    """x * cos + [-x2, x1] * sin of (N, L, heads, head width); the tables are shared by all blocks."""
    half = rotation.cos.shape[1] // 2
    cos = w.compute("rotation.cos", rotation.cos[:, None])
    sin = w.compute("rotation.sin", rotation.sin[:, None])
    first, second = f"{name}.first", f"{name}.second"
    sizes = w.constant(half, half)
    w.nodes.append(helper.make_node("Split", [x, sizes], [first, second], name=f"{name}.halves", axis=-1))
    turned = w.op("Concat", f"{name}.turned", w.op("Neg", f"{name}.negative", second), first, axis=-1)
    across = w.op("Mul", f"{name}.sin", turned, sin)
    return w.op("Add", f"{name}.rotated", w.op("Mul", f"{name}.cos", x, cos), across)


def _end_of_text(w: Writer, x: str, end_id: int | None) -> str:
    """(N, L, D) -> (N, D) at the end of text: the first largest id, or the first ``end_id``."""
    ids = w.op("Cast", "end.ids", "tokens", to=TensorProto.INT32)
    if end_id is not None:
        marker = w.weight("end.id", np.array(end_id, dtype=np.int32))
        ids = w.op("Cast", "end.found", w.op("Equal", "end.equal", ids, marker), to=TensorProto.INT32)
    index = w.op("ArgMax", "end.index", ids, axis=1, keepdims=1)
    return w.op("GatherND", "end.token", x, index, batch_dims=1)


def _image_head(w: Writer, x: str, head: Head, length: int, class_token: bool) -> None:
    """Pool image tokens (N, L, D), or (N, 1, D) for the class token, and project."""
    if head.pool == "class":
        x = w.norm("norm_post", w.op("Squeeze", "pool", x, w.constant(1)), head.norm)
        return _project(w, x, head)
    x = w.norm("norm_post", x, head.norm) if head.norm_first else x
    if isinstance(head.pool, AttentionPool):
        x = _attention_pool(w, x, head.pool, length)
    else:
        if class_token:
            end = w.weight("const.end", np.array([2**31 - 1], dtype=np.int64))
            x = w.op("Slice", "patches", x, w.constant(1), end, w.constant(1))
        x = w.op("ReduceMean", "pool", x, w.constant(1), keepdims=0)
    return _project(w, x if head.norm_first else w.norm("norm_post", x, head.norm), head)


def _attention_pool(w: Writer, x: str, pool: AttentionPool, length: int) -> str:
    """(N, L, D) -> (N, D), float32, by one learnt query, a constant that already holds the whole scale."""
    heads, head_width = pool.query.shape
    width = heads * head_width
    parts = ["pool.k", "pool.v"]
    both = w.linear("pool.kv", w.low(x), pool.kv)
    sizes = w.constant(width, width)
    w.nodes.append(helper.make_node("Split", [both, sizes], parts, name="pool.split", axis=-1))
    k, v = (
        w.op("Reshape", f"{part}.heads", part, w.constant(0, length, heads, head_width)) for part in parts
    )
    k = k if pool.k_norm is None else w.low(w.norm("pool.k.norm", w.high(k), pool.k_norm))
    k = w.op("Transpose", "pool.k.ready", k, perm=[0, 2, 3, 1])
    v = w.op("Transpose", "pool.v.ready", v, perm=[0, 2, 1, 3])
    query = w.compute("pool.query", pool.query[None, :, None])
    scores = w.high(w.op("MatMul", "pool.scores", query, k))
    weights = w.low(w.op("Softmax", "pool.softmax", scores, axis=-1))
    mixed = w.op("Reshape", "pool.attended", w.op("MatMul", "pool.mixed", weights, v), w.constant(0, width))
    y = w.high(w.linear("pool.out", mixed, pool.out))
    hidden = w.linear("pool.mlp_in", w.low(w.norm("pool.norm", y, pool.norm)), pool.mlp_in)
    hidden = w.activate("pool.act", hidden, pool.activation)
    return w.op("Add", "pool", y, w.high(w.linear("pool.mlp_out", hidden, pool.mlp_out)))


def _project(w: Writer, x: str, head: Head) -> None:
    """Project (N, D) and scale to unit length, into ``embeddings``."""
    if head.projection is not None:
        weight = w.compute("projection.weight", head.projection)
        x = w.high(w.op("MatMul", "projection", w.low(x), weight))
    if head.projection_bias is not None:
        x = w.op("Add", "projection.sum", x, w.weight("projection.bias", head.projection_bias))
    length = w.op("ReduceL2", "length.l2", x, w.constant(-1), keepdims=1)
    least = w.weight("length.least", np.array(1e-12, dtype=np.float32))
    w.op("Div", "embeddings", x, w.op("Max", "length.safe", length, least))


def _embedding_width(head: Head) -> int:
    return int(len(head.norm.weight) if head.projection is None else head.projection.shape[1])


def _model(w: Writer, name: str, source: onnx.ValueInfoProto, width: int) -> onnx.ModelProto:
    target = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", width])
    return written(w, name, source, target)


def written(
    w: Writer, name: str, source: onnx.ValueInfoProto, target: onnx.ValueInfoProto
) -> onnx.ModelProto:
    """A graph of what ``w`` holds, from ``source`` to ``target``, in the versions that devices read."""
    graph = helper.make_graph(w.nodes, name, [source], [target], list(w.weights.values()))
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rmatk",
        producer_version=__version__,
    )
