"""Reads timm's vision transformers (SigLIP, SigLIP 2, Perception Encoder) into arrays.

Only attributes are read, so this module needs no import of timm or torch. Covered are timm's
``VisionTransformer`` and ``Eva`` of standard pre-norm blocks, with or without class token, LayerScale,
QK-norm and rotary positions, pooled by class token, mean or attention.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rmatk_export.readers.common import activation, as_array, as_linear, as_norm, unsupported
from rmatk_export.readers.convolutional import read_stem
from rmatk_export.weights import AttentionPool, Block, Head, ImageStem, Linear, Norm, Rotation, Tower
from rmatk_runtime.arrays import Array

_IDENTITY = "Identity"


def read_timm_tower(visual: Any) -> Tower[ImageStem]:
    """The image tower of an open_clip ``TimmModel``.

    Raises:
        ExportError: a tower or block that the fold does not cover, by name.
    """
    trunk = visual.trunk
    if type(trunk).__name__ not in ("VisionTransformer", "Eva") or trunk.reg_token is not None:
        raise unsupported("image tower", trunk)
    if trunk.pos_embed is None or (trunk.no_embed_class and trunk.cls_token is not None):
        raise unsupported("positions of", trunk)
    embed = trunk.patch_embed
    image_size = (int(embed.img_size[0]), int(embed.img_size[1]))
    stem = ImageStem(
        patch=as_array(embed.proj.weight),
        patch_bias=None if embed.proj.bias is None else as_array(embed.proj.bias),
        class_token=None if trunk.cls_token is None else as_array(trunk.cls_token)[0, 0],
        positions=as_array(trunk.pos_embed)[0],
        norm=_optional_norm(trunk.norm_pre),
        image_size=image_size,
        convolutions=read_stem(embed.backbone, image_size) if hasattr(embed, "backbone") else (),
    )
    rotation = _rotation(trunk, stem)
    return Tower(stem, tuple(_block(block, rotation) for block in trunk.blocks), _head(visual, trunk))


def _block(block: Any, rotation: Rotation | None) -> Block:
    attention, mlp = block.attn, block.mlp
    if (
        type(block).__name__ not in ("Block", "EvaBlock")
        or type(attention).__name__ not in ("Attention", "AttentionRope")
        or getattr(attention, "qkv", None) is None
        or type(attention.norm).__name__ != _IDENTITY
        or getattr(attention, "gate", None) is not None
        or type(mlp).__name__ != "Mlp"
        or type(mlp.norm).__name__ != _IDENTITY
        or (rotation is not None and getattr(attention, "rotate_half", False))
    ):
        raise unsupported("block", block)
    qkv, heads = as_linear(attention.qkv), int(attention.num_heads)
    norms = [_optional_norm(norm) for norm in (attention.q_norm, attention.k_norm)]
    if rotation is not None:
        qkv, norms = _halves_first(qkv, heads), [_norm_halves_first(norm) for norm in norms]
    scales = [
        getattr(block, f"gamma_{number}", getattr(getattr(block, f"ls{number}", None), "gamma", None))
        for number in (1, 2)
    ]
    return Block(
        norm_1=as_norm(block.norm1),
        qkv=qkv,
        attention_out=as_linear(attention.proj),
        norm_2=as_norm(block.norm2),
        mlp_in=as_linear(mlp.fc1),
        mlp_out=as_linear(mlp.fc2),
        heads=heads,
        activation=activation(mlp.act),
        scale_1=None if scales[0] is None else as_array(scales[0]),
        scale_2=None if scales[1] is None else as_array(scales[1]),
        q_norm=norms[0],
        k_norm=norms[1],
        rotation=rotation,
    )


def _rotation(trunk: Any, stem: ImageStem) -> Rotation | None:
    """timm turns neighbouring pairs (x0, x1), (x2, x3) ...; ordered halves first, pairs become halves."""
    rope = getattr(trunk, "rope", None)
    if rope is None:
        return None
    if getattr(trunk, "rope_mixed", False):
        raise unsupported("rotary positions of", trunk)
    sin, cos = np.split(as_array(rope.get_embed()), 2, axis=-1)
    order = _halves(cos.shape[1])
    prefix = len(stem.positions) - len(cos)
    rows = ((prefix, 0), (0, 0))
    return Rotation(np.pad(cos[:, order], rows, constant_values=1), np.pad(sin[:, order], rows))


def _halves(width: int) -> Array:
    """Even places, then odd ones."""
    return np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])


def _halves_first(qkv: Linear, heads: int) -> Linear:
    """q's and k's columns reordered within each head: q . k is the same, and pairs become halves."""
    width = qkv.weight.shape[0]
    inner = _halves(width // heads)
    one = np.concatenate([head * len(inner) + inner for head in range(heads)])
    order = np.concatenate([one, width + one, np.arange(2 * width, 3 * width)])
    return Linear(qkv.weight[:, order], qkv.bias[order])


def _norm_halves_first(norm: Norm | None) -> Norm | None:
    if norm is None:
        return None
    order = _halves(len(norm.weight))
    return Norm(norm.weight[order], norm.bias[order], norm.eps)


def _head(visual: Any, trunk: Any) -> Head:
    """timm's pooling, then the one linear layer of the trunk's or of open_clip's head, if any."""
    pool: Literal["class", "mean"] | AttentionPool
    if trunk.attn_pool is not None:
        pool = _attention_pool(trunk.attn_pool)
    elif trunk.global_pool in ("token", "avg") and not getattr(trunk, "pool_include_prefix", False):
        pool = "mean" if trunk.global_pool == "avg" else "class"
    else:
        raise unsupported(f"pooling {trunk.global_pool!r} of", trunk)
    first, last = _optional_norm(trunk.norm), _optional_norm(trunk.fc_norm)
    norm = first or last
    if norm is None or (first is not None and last is not None):
        raise unsupported("norms of", trunk)
    layers = [trunk.head, *(layer for layer in visual.head if type(layer).__name__ != "Dropout")]
    projections = [layer for layer in layers if type(layer).__name__ != _IDENTITY]
    if len(projections) > 1 or any(type(layer).__name__ != "Linear" for layer in projections):
        raise unsupported("head of", trunk)
    linear = as_linear(projections[0]) if projections else None
    return Head(
        pool=pool,
        norm=norm,
        norm_first=first is not None,
        projection=None if linear is None else linear.weight,
        projection_bias=None if linear is None or projections[0].bias is None else linear.bias,
    )


def _attention_pool(pool: Any) -> AttentionPool:
    if pool.latent_len != 1 or pool.pool != "token" or pool.pos_embed is not None or pool.mlp is None:
        raise unsupported("pooling", pool)
    latent = as_array(pool.latent)[0, 0]
    query = latent.astype(np.float64)
    if type(pool.q).__name__ != _IDENTITY:
        q = as_linear(pool.q)
        query = query @ q.weight + q.bias
    query = query.reshape(pool.num_heads, -1)
    q_norm = _optional_norm(pool.q_norm)
    if q_norm is not None:
        centred = query - query.mean(axis=-1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + q_norm.eps)
        query = centred / spread * q_norm.weight + q_norm.bias
    return AttentionPool(
        query=(query * query.shape[1] ** -0.5).astype(latent.dtype),
        kv=as_linear(pool.kv),
        k_norm=_optional_norm(pool.k_norm),
        out=as_linear(pool.proj),
        norm=as_norm(pool.norm),
        mlp_in=as_linear(pool.mlp.fc1),
        mlp_out=as_linear(pool.mlp.fc2),
        activation=activation(pool.mlp.act),
    )


def _optional_norm(module: Any) -> Norm | None:
    return None if type(module).__name__ == _IDENTITY else as_norm(module)
