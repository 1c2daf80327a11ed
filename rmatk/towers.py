"""CLIP's two towers, cut where RMAdapter needs them cut: embed, blocks, head.

open_clip's own ``encode_image`` and ``encode_text`` run from pixels to features in one go. Training wants to
run the frozen lower blocks once, keep what they give, and run the upper blocks at every step with an
adapter beside each. These modules share the backbone's weights and give the same features as open_clip.

Text: a causal tower that reads out at the end-of-text token cannot see past it, so the context is cut
to the longest prompt of the batch. Exact, and several times faster than the full 77 tokens.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tower(Protocol):
    """What image and text tower have in common; ``lengths`` is None where every token is real (images)."""

    blocks: nn.ModuleList
    width: int

    def embed(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Inputs -> what block 1 reads (N, L, D), and the number of real tokens (N,) int64, or None."""

    def mask(self, length: int) -> Tensor | None:
        """Additive attention mask (L, L), or None."""

    def head(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """What the last block gives (N, L, D) -> features (N, De), unit length."""


class ImageTower(nn.Module):
    """An open_clip ``VisionTransformer`` as embed / blocks / head."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual: Any = visual
        self.blocks: nn.ModuleList = visual.transformer.resblocks
        self.width: int = visual.conv1.out_channels

    def embed(self, inputs: Tensor) -> tuple[Tensor, None]:
        """Images (N, 3, H, W) float32 normalised -> tokens (N, L, D)."""
        v = self.visual
        patches = v.conv1(inputs).flatten(2).transpose(1, 2)
        first = v.class_embedding.expand(len(patches), 1, -1)
        x: Tensor = v.ln_pre(torch.cat([first, patches], dim=1) + v.positional_embedding)
        return x, None

    def mask(self, length: int) -> None:
        """Image tokens all see each other."""

    def head(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Tokens (N, L, D) -> image features (N, De), unit length."""
        v = self.visual
        pooled, _ = v._pool(x)
        return F.normalize(pooled @ v.proj, dim=-1)


class TextTower(nn.Module):
    """A causal open_clip text transformer as embed / blocks / head.

    ``text`` is an open_clip ``CLIP``, on which the text modules lie directly, or the ``TextTransformer`` of a
    ``CustomTextCLIP``. ``eos_id``: the end-of-text token where it is told by its number; None where it
    is the highest number of each prompt (OpenAI's vocabulary).
    """

    def __init__(self, text: Any, eos_id: int | None) -> None:
        super().__init__()
        self.token_embedding: nn.Module = text.token_embedding
        self.positional_embedding: nn.Parameter = text.positional_embedding
        self.blocks: nn.ModuleList = text.transformer.resblocks
        self.ln_final: nn.Module = text.ln_final
        self.projection: nn.Module | nn.Parameter | None = text.text_projection
        self.width = int(self.positional_embedding.shape[1])
        self.eos_id = eos_id
        self.attn_mask: Tensor
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)

    def lengths(self, tokens: Tensor) -> Tensor:
        """Tokens (N, context) int64 -> real tokens of each, up to and including end-of-text (N,) int64."""
        end = tokens if self.eos_id is None else (tokens == self.eos_id).int()
        return end.argmax(dim=-1) + 1

    def embed(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, context) int64 -> (N, L, D) with L the longest prompt, and the prompts' lengths."""
        lengths = self.lengths(inputs)
        longest = int(lengths.max())
        return self.token_embedding(inputs[:, :longest]) + self.positional_embedding[:longest], lengths

    def mask(self, length: int) -> Tensor:
        """The causal mask (length, length): 0 where a token may look, -inf where not."""
        return self.attn_mask[:length, :length]

    def head(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Tokens (N, L, D) and lengths (N,) -> text features (N, De), unit length."""
        assert lengths is not None
        pooled = self.ln_final(x)[torch.arange(len(x), device=x.device), lengths - 1]
        if isinstance(self.projection, nn.Module):
            pooled = self.projection(pooled)
        elif self.projection is not None:
            pooled = pooled @ self.projection
        return F.normalize(pooled, dim=-1)


def run_block(block: Any, x: Tensor, u: Tensor, mask: Tensor | None) -> Tensor:
    """One open_clip ``ResidualAttentionBlock``, given what its first LayerNorm has already made of ``x``.

    Written out rather than called, for two reasons: the adapter reads ``u`` too, and torch's
    ``MultiheadAttention`` takes different kernels with and without gradients, whose rounding differs: an
    untrained adapter would not be exactly CLIP.

    Args:
        block: the block, frozen.
        x: (N, L, D) what the block reads.
        u: (N, L, D) ``block.ln_1(x)``.
        mask: additive attention mask (L, L), or None.

    Returns:
        (N, L, D) what the block gives.
    """
    attention: nn.MultiheadAttention = block.attn
    n, length, width = u.shape
    heads = attention.num_heads
    qkv = F.linear(u, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.view(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    mixed = attention.out_proj(mixed.transpose(1, 2).reshape(n, length, width))
    x = x + block.ls_1(mixed)
    out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return out
