"""Reading open_clip's towers into plain arrays, refusing by name what the fold does not cover.

Only attributes are read, so this module needs no import of open_clip or torch; the towers are open_clip's
``VisionTransformer`` and its text transformer, standing alone or spread over the ``CLIP`` module.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmatk_export.weights import (
    Activation,
    Array,
    Block,
    Head,
    ImageStem,
    Linear,
    Norm,
    TextStem,
    Tower,
)
from rmatk_runtime.errors import ExportError


def read_image_tower(model: Any) -> Tower[ImageStem]:
    """The image tower of an open_clip model (``model.visual``).

    Raises:
        ExportError: a tower or block that the fold does not cover, by name.
    """
    visual = model.visual
    if type(visual).__name__ != "VisionTransformer" or getattr(visual, "attn_pool", None) is not None:
        raise _unsupported("image tower", visual)
    stem = ImageStem(
        patch=_array(visual.conv1.weight),
        patch_bias=None if visual.conv1.bias is None else _array(visual.conv1.bias),
        class_token=_array(visual.class_embedding),
        positions=_array(visual.positional_embedding),
        norm=None if type(visual.ln_pre).__name__ == "Identity" else _norm(visual.ln_pre),
        image_size=(int(visual.image_size[0]), int(visual.image_size[1])),
    )
    if visual.pool_type not in ("tok", "avg"):
        raise _unsupported(f"pooling {visual.pool_type!r} of", visual)
    head = Head(
        pool="mean" if visual.pool_type == "avg" else "class",
        norm=_norm(visual.ln_post),
        norm_first=not visual.final_ln_after_pool,
        projection=None if visual.proj is None else _array(visual.proj),
    )
    return Tower(stem, _blocks(visual.transformer), head)


def read_text_tower(model: Any) -> Tower[TextStem]:
    """The text tower of an open_clip model: ``model.text``, or the parts that lie on the model itself.

    Raises:
        ExportError: not causal, or another read-out than end of text.
    """
    text = getattr(model, "text", model)
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    end_id = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
    if pool not in ("argmax", "eos") or text.attn_mask is None or getattr(text, "cls_emb", None) is not None:
        raise _unsupported(f"text tower (pooling {pool!r})", text)
    projection, bias = text.text_projection, None
    if projection is not None and hasattr(projection, "weight"):
        bias = None if projection.bias is None else _array(projection.bias)
        projection = projection.weight.T
    stem = TextStem(
        tokens=_array(text.token_embedding.weight),
        positions=_array(text.positional_embedding),
        end_id=None if pool == "argmax" or end_id is None else int(end_id),
    )
    head = Head(
        pool="end",
        norm=_norm(text.ln_final),
        norm_first=True,
        projection=None if projection is None else _array(projection),
        projection_bias=bias,
    )
    return Tower(stem, _blocks(text.transformer), head)


def _blocks(transformer: Any) -> tuple[Block, ...]:
    return tuple(_block(block) for block in transformer.resblocks)


def _block(block: Any) -> Block:
    attention = block.attn
    if type(block).__name__ != "ResidualAttentionBlock" or type(attention).__name__ != "MultiheadAttention":
        raise _unsupported("block", block)
    if attention.in_proj_weight is None or attention.bias_k is not None:
        raise _unsupported("attention of", block)
    return Block(
        norm_1=_norm(block.ln_1),
        qkv=Linear(_array(attention.in_proj_weight).T, _array(attention.in_proj_bias)),
        attention_out=_linear(attention.out_proj),
        norm_2=_norm(block.ln_2),
        mlp_in=_linear(block.mlp.c_fc),
        mlp_out=_linear(block.mlp.c_proj),
        heads=int(attention.num_heads),
        activation=_activation(block.mlp.gelu),
        scale_1=_layer_scale(block.ls_1),
        scale_2=_layer_scale(block.ls_2),
    )


def _activation(module: Any) -> Activation:
    name = type(module).__name__
    if name == "QuickGELU":
        return "quick_gelu"
    if name == "GELU" and getattr(module, "approximate", "none") == "none":
        return "gelu"
    raise _unsupported("activation", module)


def _layer_scale(module: Any) -> Array | None:
    return _array(module.gamma) if hasattr(module, "gamma") else None


def _norm(module: Any) -> Norm:
    return Norm(_array(module.weight), _array(module.bias), float(module.eps))


def _linear(module: Any) -> Linear:
    weight = _array(module.weight).T
    bias = np.zeros(weight.shape[1], weight.dtype) if module.bias is None else _array(module.bias)
    return Linear(weight, bias)


def _array(tensor: Any) -> Array:
    """A parameter as a float array (float64 stays, everything else becomes float32)."""
    array = tensor.detach().cpu()
    array = array if str(array.dtype) == "torch.float64" else array.float()
    return np.ascontiguousarray(array.numpy())


def _unsupported(what: str, module: Any) -> ExportError:
    return ExportError(
        f"cannot export the {what} {type(module).__name__}",
        "towers of open_clip's own residual attention blocks can be exported, for example ViT-B-16",
    )
