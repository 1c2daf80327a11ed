"""The folded towers run by PyTorch: the parity stage between the trained model and the ONNX graph.

It takes the very arrays that the graph is written from. Where this stage agrees with the trained model and
ONNX Runtime does not, the graph or the engine is at fault; where this one already differs, the fold is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from rmatk_export.weights import (
    Activation,
    AttentionPool,
    ConvBlock,
    FoldedBlock,
    FoldedTower,
    Head,
    ImageStem,
    Linear,
    Norm,
    Rotation,
    TextStem,
)
from rmatk_runtime.arrays import Array, Float32
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.parity.reference import Batch
from rmatk_runtime.parity.stage import StageKind


@dataclass(frozen=True)
class FoldedCandidate:
    """The folded image tower as a parity candidate."""

    tower: FoldedTower[ImageStem]
    name: str = "torch folded"
    kind: StageKind = StageKind.FOLD
    precision: Precision = "fp32"

    def run(self, batch: Batch) -> Float32:
        """See :meth:`rmatk_runtime.parity.walk.Candidate.run`."""
        embeddings: Float32 = run_image(self.tower, torch.from_numpy(batch.tensors)).numpy()
        return embeddings


def run_image(tower: FoldedTower[ImageStem], images: torch.Tensor) -> torch.Tensor:
    """``images`` (N, 3, H, W) normalised, of the tower's dtype -> (N, E) unit length."""
    stem = tower.stem
    patch = _tensor(stem.patch)
    bias = None if stem.patch_bias is None else _tensor(stem.patch_bias)
    x = images
    for block in stem.convolutions:
        x = _conv_block(x, block)
    x = F.conv2d(x, patch, bias, stride=patch.shape[2:]).flatten(2).transpose(1, 2)
    if stem.class_token is not None:
        x = torch.cat([_tensor(stem.class_token).expand(len(x), 1, -1), x], dim=1)
    x = x + _tensor(stem.positions)
    if stem.norm is not None:
        x = _norm(x, stem.norm)
    for folded in tower.blocks:
        x = _block(x, folded, None)
    head = tower.head
    if head.pool == "class":
        return _project(_norm(x[:, 0], head.norm), head)
    x = _norm(x, head.norm) if head.norm_first else x
    if isinstance(head.pool, AttentionPool):
        pooled = _attention_pool(x, head.pool)
    else:
        pooled = x[:, 0 if stem.class_token is None else 1 :].mean(dim=1)
    return _project(pooled if head.norm_first else _norm(pooled, head.norm), head)


def run_text(tower: FoldedTower[TextStem], tokens: torch.Tensor) -> torch.Tensor:
    """``tokens`` (N, L) int64 -> (N, E) unit length."""
    stem = tower.stem
    length = tokens.shape[1]
    x = _tensor(stem.tokens)[tokens] + _tensor(stem.positions[:length])
    mask = torch.full((length, length), -math.inf, dtype=x.dtype).triu(1) if stem.causal else None
    for block in tower.blocks:
        x = _block(x, block, mask)
    ids = tokens if stem.end_id is None else (tokens == stem.end_id).int()
    last = tower.head.pool == "last"
    pooled = x[:, -1] if last else x[torch.arange(len(x)), ids.argmax(dim=1)]
    return _project(_norm(pooled, tower.head.norm), tower.head)


def _conv_block(x: torch.Tensor, block: ConvBlock) -> torch.Tensor:
    given = x
    for layer in block.layers:
        top, left, bottom, right = layer.pads
        x = F.pad(x, (left, right, top, bottom))
        x = F.conv2d(x, _tensor(layer.weight), _tensor(layer.bias), layer.stride, groups=layer.groups)
        x = x if layer.clip is None else x.clamp(0, layer.clip)
    return x + given if block.residual else x


def _block(x: torch.Tensor, block: FoldedBlock, mask: torch.Tensor | None) -> torch.Tensor:
    batch, length, width = x.shape
    wide = _linear(_norm(x, block.norm_1), block.wide_in)
    qkv, down = wide[..., : 3 * width], wide[..., 3 * width :]
    q, k, v = (part.reshape(batch, length, block.heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    q = q if block.q_norm is None else _norm(q, block.q_norm)
    k = k if block.k_norm is None else _norm(k, block.k_norm)
    if block.rotation is not None:
        q, k = _rotated(q, block.rotation), _rotated(k, block.rotation)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores if mask is None else scores + mask
    attended = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, length, width)
    x = x + _linear(attended, block.attention_out)
    hidden = _linear(_norm(x, block.norm_2), block.mlp_in)
    hidden = _activated(hidden, block.activation)
    return x + _linear(torch.cat([hidden, F.gelu(down)], dim=-1), block.wide_out)


def _attention_pool(x: torch.Tensor, pool: AttentionPool) -> torch.Tensor:
    batch, length, width = x.shape
    heads = len(pool.query)
    keys, values = (
        part.reshape(batch, length, heads, -1).transpose(1, 2)
        for part in _linear(x, pool.kv).chunk(2, dim=-1)
    )
    keys = keys if pool.k_norm is None else _norm(keys, pool.k_norm)
    scores = _tensor(pool.query)[None, :, None] @ keys.transpose(-1, -2)
    y = _linear((scores.softmax(dim=-1) @ values).reshape(batch, width), pool.out)
    hidden = _activated(_linear(_norm(y, pool.norm), pool.mlp_in), pool.activation)
    return y + _linear(hidden, pool.mlp_out)


def _rotated(x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * _tensor(rotation.cos) + torch.cat([-second, first], dim=-1) * _tensor(rotation.sin)


def _activated(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def _project(pooled: torch.Tensor, head: Head) -> torch.Tensor:
    if head.projection is not None:
        pooled = pooled @ _tensor(head.projection)
    if head.projection_bias is not None:
        pooled = pooled + _tensor(head.projection_bias)
    return F.normalize(pooled, dim=-1)


def _norm(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], _tensor(norm.weight), _tensor(norm.bias), norm.eps)


def _linear(x: torch.Tensor, linear: Linear) -> torch.Tensor:
    return x @ _tensor(linear.weight) + _tensor(linear.bias)


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array)
