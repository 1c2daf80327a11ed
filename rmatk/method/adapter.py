"""RMAdapter: a dual-branch adapter beside the upper blocks of both CLIP towers.

Implements X. Lin, W. Li, S. Guo, L. Wang, D. Huang, "RMAdapter: Reconstruction-based Multi-Modal Adapter for
Vision-Language Models", AAAI 2026, https://arxiv.org/abs/2512.06811. With a bottleneck of r, and u = LN1_i(x)
what block i's own first LayerNorm gives, (N, L, D):

    h     = GELU(u W_down + b_down)                     (N, L, r)  shared by both branches
    adapt = h W_up + b_up                               (N, L, D)  adaptation branch
    recon = GELU(h W_rec1 + b_rec1) W_rec2 + b_rec2     (N, L, D)  reconstruction branch, in training only
    out   = Block_i(x) + s * adapt                      (N, L, D)

From MMA (Yang et al., CVPR 2024), which the paper builds on: the adapter stands in parallel to the whole
block and reads LN1's output, r = 32, the upper two thirds of the blocks. Ours: W_up and b_up start at zero,
so that an untrained adapter is exactly CLIP; the exact (erf) GELU; W_rec1 is (r, r), which gives the paper's
count of parameters.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmatk.method.losses import reconstruction_error
from rmatk.method.towers import Tower


class DualBranchAdapter(nn.Module):
    """Both branches of one block's adapter, on a tower of width D with a bottleneck of ``rank``."""

    def __init__(self, width: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = _linear(width, rank, generator)
        self.up = _linear(rank, width, generator)
        self.rec1 = _linear(rank, rank, generator)
        self.rec2 = _linear(rank, width, generator)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def adapt(self, u: Tensor) -> Tensor:
        """The adaptation branch: (N, L, D) -> (N, L, D)."""
        return cast(Tensor, self.up(F.gelu(self.down(u))))

    def reconstruct(self, u: Tensor) -> Tensor:
        """The reconstruction branch: (N, L, D) -> (N, L, D)."""
        return cast(Tensor, self.rec2(F.gelu(self.rec1(F.gelu(self.down(u))))))


class AdaptedTower(nn.Module):
    """A frozen tower with an adapter beside each of its last ``adapted`` blocks.

    ``blocks`` maps the index of a block (from 0, as in open_clip's ``resblocks``) to its adapter. The tower
    runs in two parts: ``lower`` is frozen and can be kept; the rest reads what ``lower`` gave.
    """

    def __init__(
        self, tower: Tower, *, adapted: int, rank: int, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.tower = tower
        self.scale = scale
        self.first = len(tower.blocks) - adapted
        self.blocks = nn.ModuleDict(
            {
                str(index): DualBranchAdapter(tower.width, rank, generator)
                for index in range(self.first, len(tower.blocks))
            }
        )

    @torch.no_grad()
    def lower(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Inputs of the tower -> what its first adapted block reads (N, L, D), and the real tokens (N,)."""
        x, lengths = self.tower.embed(inputs)
        mask = self.tower.mask(x.shape[1])
        block: Any
        for block in self.tower.blocks[: self.first]:
            x = block(x, block.norm(x), mask)
        return x, lengths

    @torch.no_grad()
    def frozen(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """What ``lower`` gave -> CLIP's own features (N, De), unit length, as if no adapter were there."""
        mask = self.tower.mask(x.shape[1])
        block: Any
        for block in self.tower.blocks[self.first :]:
            x = block(x, block.norm(x), mask)
        return self.tower.head(x, lengths)

    def adapted(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """What ``lower`` gave -> adapted features (N, De), unit length."""
        return self._upper(x, lengths, None)

    def reconstructed(
        self, x: Tensor, lengths: Tensor | None, shared: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As ``adapted``, with the sum over blocks of the reconstruction error, a scalar.

        ``shared`` (1, P, D): what ``lower`` gave of tokens that begin all N samples of a causal tower ("a
        photo of a"), whose outputs no later token changes; they are left out of ``x`` and run once. The
        error counts them N times, as if they stood in every sample.
        """
        errors: list[Tensor] = []
        if shared is None:
            return self._upper(x, lengths, errors), torch.stack(errors).sum()
        return self._upper_behind(shared, x, lengths, errors), torch.stack(errors).sum()

    def _upper_behind(
        self, shared: Tensor, x: Tensor, lengths: Tensor | None, errors: list[Tensor]
    ) -> Tensor:
        first = shared.shape[1]
        mask = self.tower.mask(first + x.shape[1])
        assert mask is not None and lengths is not None
        once = first * len(x) / (first * len(x) + lengths.sum())
        for index, module in self.blocks.items():
            block: Any = self.tower.blocks[int(index)]
            adapter = cast(DualBranchAdapter, module)
            before, u = block.norm(shared), block.norm(x)
            shared = block(shared, before, mask[:first, :first]) + self.scale * adapter.adapt(before)
            x = block(x, u, mask[first:], before) + self.scale * adapter.adapt(u)
            parts = []
            for own, own_lengths in ((before.detach(), None), (u.detach(), lengths)):
                parts.append(reconstruction_error(adapter.reconstruct(own), own, own_lengths))
            errors.append(once * parts[0] + (1 - once) * parts[1])
        return self.tower.head(x, lengths)

    def _upper(self, x: Tensor, lengths: Tensor | None, errors: list[Tensor] | None) -> Tensor:
        mask = self.tower.mask(x.shape[1])
        for index, module in self.blocks.items():
            block: Any = self.tower.blocks[int(index)]
            adapter = cast(DualBranchAdapter, module)
            u = block.norm(x)
            x = block(x, u, mask) + self.scale * adapter.adapt(u)
            if errors is not None:  # local: neither the input nor the target passes a gradient on
                target = u.detach()
                errors.append(reconstruction_error(adapter.reconstruct(target), target, lengths))
        return self.tower.head(x, lengths)


def adapter_params(module: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name: the adapters', since the backbone is frozen."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """``nn.Linear`` with torch's usual initial distribution, drawn from ``generator`` alone."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer
