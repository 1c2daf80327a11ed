"""The folded towers run by PyTorch: the parity stage between the trained model and the ONNX graph.

It takes the very arrays that the graph is written from. Where this stage agrees with the trained model and
ONNX Runtime does not, the graph or the engine is at fault; where this one already differs, the fold is.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from rmatk_export.weights import Array, FoldedBlock, FoldedTower, Head, ImageStem, Linear, Norm, TextStem


def run_image(tower: FoldedTower[ImageStem], images: torch.Tensor) -> torch.Tensor:
    """``images`` (N, 3, H, W) normalised, of the tower's dtype -> (N, E) unit length."""
    stem = tower.stem
    patch = _tensor(stem.patch)
    bias = None if stem.patch_bias is None else _tensor(stem.patch_bias)
    x = F.conv2d(images, patch, bias, stride=patch.shape[2:]).flatten(2).transpose(1, 2)
    x = torch.cat([_tensor(stem.class_token).expand(len(x), 1, -1), x], dim=1) + _tensor(stem.positions)
    if stem.norm is not None:
        x = _norm(x, stem.norm)
    for block in tower.blocks:
        x = _block(x, block, None)
    pooled = x[:, 0]
    if tower.head.pool == "mean":
        x = _norm(x, tower.head.norm) if tower.head.norm_first else x
        pooled = x[:, 1:].mean(dim=1)
    return _head(pooled, tower.head)


def run_text(tower: FoldedTower[TextStem], tokens: torch.Tensor) -> torch.Tensor:
    """``tokens`` (N, L) int64 -> (N, E) unit length."""
    stem = tower.stem
    length = tokens.shape[1]
    x = _tensor(stem.tokens)[tokens] + _tensor(stem.positions[:length])
    mask = torch.full((length, length), -math.inf, dtype=x.dtype).triu(1)
    for block in tower.blocks:
        x = _block(x, block, mask)
    ids = tokens if stem.end_id is None else (tokens == stem.end_id).int()
    return _head(x[torch.arange(len(x)), ids.argmax(dim=1)], tower.head)


def _block(x: torch.Tensor, block: FoldedBlock, mask: torch.Tensor | None) -> torch.Tensor:
    batch, length, width = x.shape
    wide = _linear(_norm(x, block.norm_1), block.wide_in)
    qkv, down = wide[..., : 3 * width], wide[..., 3 * width :]
    q, k, v = (part.view(batch, length, block.heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores if mask is None else scores + mask
    attended = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, length, width)
    x = x + _linear(attended, block.attention_out)
    hidden = _linear(_norm(x, block.norm_2), block.mlp_in)
    hidden = hidden * torch.sigmoid(1.702 * hidden) if block.activation == "quick_gelu" else F.gelu(hidden)
    return x + _linear(torch.cat([hidden, F.gelu(down)], dim=-1), block.wide_out)


def _head(pooled: torch.Tensor, head: Head) -> torch.Tensor:
    if not (head.pool == "mean" and head.norm_first):
        pooled = _norm(pooled, head.norm)
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
