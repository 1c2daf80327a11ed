"""Residual attention blocks of open_clip and timm behind one call that takes LN1's output.

Written out rather than called, for two reasons: the adapter reads u = LN1(x) too, and torch's
``MultiheadAttention`` takes different kernels with and without gradients, whose rounding differs: an
untrained adapter would not be exactly CLIP.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A frozen block: ``norm`` gives u = LN1(x), the call gives the block's output from x and u."""

    def norm(self, x: Tensor) -> Tensor:
        """The block's own first LayerNorm: (N, L, D) -> (N, L, D)."""
        raise NotImplementedError

    def forward(self, x: Tensor, u: Tensor, mask: Tensor | None, before: Tensor | None = None) -> Tensor:
        """What the block gives.

        Args:
            x: (N, L, D) what the block reads.
            u: (N, L, D) ``norm(x)``.
            mask: additive attention mask (L, P + L), or None.
            before: (1, P, D) ``norm`` of tokens that stand before those of every sample, to be attended to.

        Returns:
            (N, L, D).
        """
        raise NotImplementedError


class OpenClipBlock(Block):
    """open_clip's ``ResidualAttentionBlock``."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block: Any = block

    def norm(self, x: Tensor) -> Tensor:
        """See :meth:`Block.norm`."""
        return cast(Tensor, self.block.ln_1(x))

    def forward(self, x: Tensor, u: Tensor, mask: Tensor | None, before: Tensor | None = None) -> Tensor:
        """See :meth:`Block.forward`."""
        block, attention = self.block, self.block.attn
        qkv = F.linear(u, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = _heads(qkv, attention.num_heads)
        if before is not None:
            shared = F.linear(before, attention.in_proj_weight, attention.in_proj_bias)
            _, first_k, first_v = _heads(shared, attention.num_heads)
            k = torch.cat([first_k.expand(len(k), -1, -1, -1), k], dim=2)
            v = torch.cat([first_v.expand(len(v), -1, -1, -1), v], dim=2)
        mixed = attention.out_proj(_together(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        x = x + block.ls_1(mixed)
        return cast(Tensor, x + block.ls_2(block.mlp(block.ln_2(x))))


class TimmBlock(Block):
    """A block of timm's ``VisionTransformer`` or ``Eva``, with QK-norm, rotary positions and LayerScale.

    ``rope`` (P, 2 x head width): timm's sines and cosines of the P patches, or None.
    """

    rope: Tensor | None

    def __init__(self, block: nn.Module, rope: Tensor | None) -> None:
        super().__init__()
        self.block: Any = block
        self.register_buffer("rope", rope, persistent=False)

    def norm(self, x: Tensor) -> Tensor:
        """See :meth:`Block.norm`."""
        return cast(Tensor, self.block.norm1(x))

    def forward(self, x: Tensor, u: Tensor, mask: Tensor | None, before: Tensor | None = None) -> Tensor:
        """See :meth:`Block.forward`; image towers have nothing ``before``."""
        block, attention = self.block, self.block.attn
        q, k, v = _heads(attention.qkv(u), attention.num_heads)
        q, k = attention.q_norm(q), attention.k_norm(k)
        if self.rope is not None:
            q, k = self._rotated(q, self.rope), self._rotated(k, self.rope)
        mixed = attention.proj(_together(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        x = x + self._scaled(mixed, 1)
        return x + self._scaled(block.mlp(block.norm2(x)), 2)

    def _rotated(self, x: Tensor, rope: Tensor) -> Tensor:
        """Turn the patches of (N, heads, L, head width); the class token in front has no place."""
        from timm.layers.pos_embed_sincos import apply_rot_embed_cat

        prefix = x.shape[2] - len(rope)
        patches = apply_rot_embed_cat(x[:, :, prefix:], rope.to(x.dtype))
        return torch.cat([x[:, :, :prefix], patches], dim=2)

    def _scaled(self, branch: Tensor, number: int) -> Tensor:
        """LayerScale of the first or second residual branch, which timm spells in two ways."""
        gamma = getattr(self.block, f"gamma_{number}", None)
        if gamma is not None:
            return cast(Tensor, gamma * branch)
        scale = getattr(self.block, f"ls{number}", None)
        return branch if scale is None else cast(Tensor, scale(branch))


def _heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N, L, 3D) -> q, k, v, each (N, heads, L, D / heads)."""
    n, length, width = qkv.shape
    q, k, v = qkv.view(n, length, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
    return q, k, v


def _together(mixed: Tensor) -> Tensor:
    """(N, heads, L, D / heads) -> (N, L, D)."""
    return mixed.transpose(1, 2).flatten(2)
