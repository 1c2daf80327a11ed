"""Muon: momentum whose matrices are made orthogonal before they are applied, in float32.

Why not torch.optim.Muon: it computes the Newton-Schulz iteration in bfloat16, which CPUs without bfloat16
units emulate, some twenty times slower. K. Jordan et al., "Muon", 2024; scaled to AdamW's step as in
J. Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, so that one learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """U V^T of each matrix' singular value decomposition, roughly: (K, M, N) -> (K, M, N) float32."""
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For weights (M, N) of hidden layers, and for (3 N, N) of q, k and v, which are taken as three.

    Args:
        params: matrices.
        lr: as AdamW's: an update's root mean square is about 0.2 lr.
        momentum: Nesterov's.
        weight_decay: decoupled.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                direction = p.grad.lerp(buffer, group["momentum"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                parts = 3 if p.shape[0] == 3 * p.shape[1] else 1
                for weight, update in zip(p.chunk(parts), direction.chunk(parts), strict=True):
                    alike.setdefault((weight.shape[0], weight.shape[1]), []).append((weight, update))
            for shape, pairs in alike.items():
                updates = orthogonal(torch.stack([update for _, update in pairs]))
                step = group["lr"] * 0.2 * max(shape) ** 0.5
                for (weight, _), update in zip(pairs, updates, strict=True):
                    weight.add_(update, alpha=-step)
