"""The fold: merges the adaptation branch into the block's own matrix products, exactly.

With u = LN1(x), the adapted block is  Block(x) + s * (GELU(u W_down + b_down) W_up + b_up).  The branch is
not linear, so it cannot vanish into one weight; but its first product shares its input with q, k, v and its
second one shares its output with the MLP's, so neither needs a product of its own:

    [q k v d]  = u [W_qkv | W_down] + [b_qkv | b_down]
    block out  = x' + [act(z) | GELU(d)] [W_proj ; s W_up] + (b_proj + s b_up)

x' is the stream after attention, z the MLP's hidden layer. LayerScale is multiplied into the output
projections first. Nothing is approximated: the two sides differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from rmatk_export.weights import Adapter, Block, FoldedBlock, FoldedTower, Linear, Stem, Tower
from rmatk_runtime.arrays import Array
from rmatk_runtime.errors import ExportError


def attach(tower: Tower[Stem], adapters: Mapping[int, Adapter]) -> Tower[Stem]:
    """``tower`` with an adapter beside each block named by its index.

    Raises:
        ExportError: an index or a width that does not fit the tower.
    """
    for index, adapter in adapters.items():
        if not 0 <= index < len(tower.blocks):
            raise ExportError(f"an adapter belongs to block {index}, the tower has {len(tower.blocks)}")
        width = tower.blocks[index].qkv.weight.shape[0]
        if adapter.down.weight.shape[0] != width or adapter.up.weight.shape[1] != width:
            raise ExportError(
                f"the adapter of block {index} is {adapter.down.weight.shape[0]} wide, the tower {width}"
            )
    blocks = tuple(replace(block, adapter=adapters.get(i)) for i, block in enumerate(tower.blocks))
    return replace(tower, blocks=blocks)


def fold(tower: Tower[Stem]) -> FoldedTower[Stem]:
    """Fold LayerScale and adapters of every block; dtype (float32 or float64) is kept.

    Raises:
        ExportError: a weight is not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is named just below
        blocks = tuple(_fold_block(block) for block in tower.blocks)
    folded = FoldedTower(tower.stem, blocks, tower.head)
    for index, block in enumerate(blocks):
        for product in (block.wide_in, block.attention_out, block.mlp_in, block.wide_out):
            if not (np.isfinite(product.weight).all() and np.isfinite(product.bias).all()):
                raise ExportError(f"block {index} holds a weight that is not finite", "train again")
    return folded


def _fold_block(block: Block) -> FoldedBlock:
    attention_out = _scaled(block.attention_out, block.scale_1)
    mlp_out = _scaled(block.mlp_out, block.scale_2)
    adapter = block.adapter
    wide_in, wide_out, rank = block.qkv, mlp_out, 0
    if adapter is not None:
        rank = adapter.down.weight.shape[1]
        scale = mlp_out.weight.dtype.type(adapter.scale)
        wide_in = Linear(
            np.concatenate([block.qkv.weight, adapter.down.weight], axis=1),
            np.concatenate([block.qkv.bias, adapter.down.bias]),
        )
        wide_out = Linear(
            np.concatenate([mlp_out.weight, scale * adapter.up.weight], axis=0),
            mlp_out.bias + scale * adapter.up.bias,
        )
    return FoldedBlock(
        norm_1=block.norm_1,
        wide_in=wide_in,
        attention_out=attention_out,
        norm_2=block.norm_2,
        mlp_in=block.mlp_in,
        wide_out=wide_out,
        heads=block.heads,
        activation=block.activation,
        rank=rank,
        q_norm=block.q_norm,
        k_norm=block.k_norm,
        rotation=block.rotation,
    )


def _scaled(linear: Linear, scale: Array | None) -> Linear:
    """LayerScale after a linear layer is a column scaling of it."""
    return linear if scale is None else Linear(linear.weight * scale, linear.bias * scale)
