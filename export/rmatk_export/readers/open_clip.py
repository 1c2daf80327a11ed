"""Reads open_clip's towers into arrays; refuses by name what the fold does not cover.

Only attributes are read, so this module needs no import of open_clip or torch; the towers are open_clip's
``VisionTransformer`` and its text transformer, standing alone or spread over the ``CLIP`` module. Image
towers of timm are passed on to ``timm.py``.
"""

from __future__ import annotations

from typing import Any

from rmatk_export.readers.common import activation, as_array, as_linear, as_norm, unsupported
from rmatk_export.readers.timm import read_timm_tower
from rmatk_export.weights import Block, Head, ImageStem, Linear, TextStem, Tower
from rmatk_runtime.arrays import Array


def read_image_tower(model: Any) -> Tower[ImageStem]:
    """The image tower of an open_clip model (``model.visual``).

    Raises:
        ExportError: a tower or block that the fold does not cover, by name.
    """
    visual = model.visual
    if type(visual).__name__ == "TimmModel":
        return read_timm_tower(visual)
    if type(visual).__name__ != "VisionTransformer" or getattr(visual, "attn_pool", None) is not None:
        raise unsupported("image tower", visual)
    stem = ImageStem(
        patch=as_array(visual.conv1.weight),
        patch_bias=None if visual.conv1.bias is None else as_array(visual.conv1.bias),
        class_token=as_array(visual.class_embedding),
        positions=as_array(visual.positional_embedding),
        norm=None if type(visual.ln_pre).__name__ == "Identity" else as_norm(visual.ln_pre),
        image_size=(int(visual.image_size[0]), int(visual.image_size[1])),
    )
    if visual.pool_type not in ("tok", "avg"):
        raise unsupported(f"pooling {visual.pool_type!r} of", visual)
    head = Head(
        pool="mean" if visual.pool_type == "avg" else "class",
        norm=as_norm(visual.ln_post),
        norm_first=not visual.final_ln_after_pool,
        projection=None if visual.proj is None else as_array(visual.proj),
    )
    return Tower(stem, _blocks(visual.transformer), head)


def read_text_tower(model: Any) -> Tower[TextStem]:
    """The text tower of an open_clip model: ``model.text``, or the parts on the model itself.

    Raises:
        ExportError: a read-out or a mask that is not covered.
    """
    text = getattr(model, "text", model)
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    end_id = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
    causal = text.attn_mask is not None
    known = pool in ("argmax", "eos") if causal else pool == "last"
    if not known or getattr(text, "use_pad_mask", False) or getattr(text, "cls_emb", None) is not None:
        raise unsupported(f"text tower (pooling {pool!r})", text)
    projection, bias = text.text_projection, None
    if projection is not None and hasattr(projection, "weight"):
        bias = None if projection.bias is None else as_array(projection.bias)
        projection = projection.weight.T
    stem = TextStem(
        tokens=as_array(text.token_embedding.weight),
        positions=as_array(text.positional_embedding),
        end_id=int(end_id) if pool == "eos" and end_id is not None else None,
        causal=causal,
    )
    head = Head(
        pool="end" if causal else "last",
        norm=as_norm(text.ln_final),
        norm_first=True,
        projection=None if projection is None else as_array(projection),
        projection_bias=bias,
    )
    return Tower(stem, _blocks(text.transformer), head)


def _blocks(transformer: Any) -> tuple[Block, ...]:
    return tuple(_block(block) for block in transformer.resblocks)


def _block(block: Any) -> Block:
    attention = block.attn
    if type(block).__name__ != "ResidualAttentionBlock" or type(attention).__name__ != "MultiheadAttention":
        raise unsupported("block", block)
    if attention.in_proj_weight is None or attention.bias_k is not None:
        raise unsupported("attention of", block)
    return Block(
        norm_1=as_norm(block.ln_1),
        qkv=Linear(as_array(attention.in_proj_weight).T, as_array(attention.in_proj_bias)),
        attention_out=as_linear(attention.out_proj),
        norm_2=as_norm(block.ln_2),
        mlp_in=as_linear(block.mlp.c_fc),
        mlp_out=as_linear(block.mlp.c_proj),
        heads=int(attention.num_heads),
        activation=activation(block.mlp.gelu),
        scale_1=_layer_scale(block.ls_1),
        scale_2=_layer_scale(block.ls_2),
    )


def _layer_scale(module: Any) -> Array | None:
    return as_array(module.gamma) if hasattr(module, "gamma") else None
