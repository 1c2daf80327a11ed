"""CLIP's two towers, split where RMAdapter needs it: embed, blocks, head.

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

from rmatk.method.blocks import OpenClipBlock, TimmBlock


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


def image_tower(visual: Any) -> ImageTower | TimmImageTower:
    """The tower of a CLIP's ``visual``, whichever library it is made of."""
    return TimmImageTower(visual) if hasattr(visual, "trunk") else ImageTower(visual)


class ImageTower(nn.Module):
    """An open_clip ``VisionTransformer`` as embed / blocks / head."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual: Any = visual
        self.blocks = nn.ModuleList(OpenClipBlock(block) for block in visual.transformer.resblocks)
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


class TimmImageTower(nn.Module):
    """An open_clip ``TimmModel`` (SigLIP, PE ...) as embed / blocks / head."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual: Any = visual
        trunk = visual.trunk
        rope = getattr(trunk, "rope", None)
        table = None if rope is None else rope.get_embed().detach()
        self.blocks = nn.ModuleList(TimmBlock(block, table) for block in trunk.blocks)
        self.width: int = trunk.embed_dim

    def embed(self, inputs: Tensor) -> tuple[Tensor, None]:
        """Images (N, 3, H, W) float32 normalised -> tokens (N, L, D)."""
        trunk = self.visual.trunk
        x = trunk._pos_embed(trunk.patch_embed(inputs))
        x = x[0] if isinstance(x, tuple) else x  # Eva returns its rotary table beside the tokens
        return trunk.norm_pre(x), None

    def mask(self, length: int) -> None:
        """Image tokens all see each other."""

    def head(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Tokens (N, L, D) -> image features (N, De), unit length."""
        trunk = self.visual.trunk
        return F.normalize(self.visual.head(trunk.forward_head(trunk.norm(x))), dim=-1)


class TextTower(nn.Module):
    """An open_clip text transformer as embed / blocks / head.

    ``text`` is an open_clip ``CLIP``, on which the text modules lie directly, or the ``TextTransformer`` of a
    ``CustomTextCLIP``. ``eos_id``: the end-of-text token where it is identified by its number; None where it
    is the highest number of each prompt (OpenAI's vocabulary). A tower that is not causal (SigLIP) sees its
    padding and reads out at the last token: nothing is cut, and every token counts as real.
    """

    def __init__(self, text: Any, eos_id: int | None) -> None:
        super().__init__()
        self.token_embedding: nn.Module = text.token_embedding
        self.positional_embedding: nn.Parameter = text.positional_embedding
        self.blocks = nn.ModuleList(OpenClipBlock(block) for block in text.transformer.resblocks)
        self.ln_final: nn.Module = text.ln_final
        self.projection: nn.Module | nn.Parameter | None = text.text_projection
        self.width = int(self.positional_embedding.shape[1])
        self.eos_id = eos_id
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)

    def lengths(self, tokens: Tensor) -> Tensor:
        """Tokens (N, context) int64 -> real tokens of each, up to and including end-of-text (N,) int64."""
        end = tokens if self.eos_id is None else (tokens == self.eos_id).int()
        return end.argmax(dim=-1) + 1

    def embed(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens (N, context) int64 -> (N, L, D), and the prompts' lengths (N,) int64.

        L is the longest prompt where the tower is causal; where it is not, L is the context and lengths None.
        """
        if self.attn_mask is None:
            return self.token_embedding(inputs) + self.positional_embedding, None
        lengths = self.lengths(inputs)
        longest = int(lengths.max())
        return self.token_embedding(inputs[:, :longest]) + self.positional_embedding[:longest], lengths

    def mask(self, length: int) -> Tensor | None:
        """The causal mask (length, length): 0 where a token may look, -inf where not; None: everywhere."""
        return None if self.attn_mask is None else self.attn_mask[:length, :length]

    def head(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Tokens (N, L, D) and lengths (N,) or None -> text features (N, De), unit length."""
        x = self.ln_final(x)
        pooled = x[:, -1] if lengths is None else x[torch.arange(len(x), device=x.device), lengths - 1]
        if isinstance(self.projection, nn.Module):
            pooled = self.projection(pooled)
        elif self.projection is not None:
            pooled = pooled @ self.projection
        return F.normalize(pooled, dim=-1)
