"""Baselines on frozen CLIP features: a linear probe and Tip-Adapter.

Linear probe: multinomial logistic regression, as in CLIP (Radford et al., 2021). It has a weight per class
it was trained on, so it says nothing about new classes.

Tip-Adapter (Zhang et al., ECCV 2022, https://arxiv.org/abs/2207.09519): the training shots are a cache, F
(N, De) their features and Y (N, C) their labels, one-hot; f (n, De) a test photo's features, W (C, De) the
class embeddings:

    logits = exp(t) f W^T + alpha exp(-beta (1 - f F^T)) Y

Of new classes the cache holds no shots, so there it is zero-shot CLIP. Tip-Adapter-F trains F. alpha = 1
and beta = 5.5 are its public code's starting values; its search for better ones on validation data is left
out (ours).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA, BETA = 1.0, 5.5
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""L2 strengths the linear probe chooses from."""
_EPOCHS, _LR, _BATCH = 20, 1e-3, 256


class LinearProbe:
    """Logistic regression on features standardised by the training shots.

    The L2 strength is chosen on a quarter of every class's shots, then all are used.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, seed: int) -> None:
        """Features (N, De) float32, labels (N,) int64 below ``classes``."""
        self.mean, self.std = features.mean(dim=0), features.std(dim=0) + 1e-6
        x = (features - self.mean) / self.std
        inner, held = _quarter(labels, seed)
        hits = {
            strength: float((x[held] @ w + b).argmax(dim=-1).eq(labels[held]).float().mean())
            for strength in STRENGTHS
            for w, b in [_logistic(x[inner], labels[inner], classes, strength)]
        }
        self.strength = max(STRENGTHS, key=lambda strength: hits[strength])
        self.weight, self.bias = _logistic(x, labels, classes, self.strength)

    def logits(self, features: Tensor) -> Tensor:
        """Features (n, De) -> (n, classes)."""
        return (features - self.mean) / self.std @ self.weight + self.bias


def tip_logits(features: Tensor, classes: Tensor, keys: Tensor, values: Tensor, logit_scale: float) -> Tensor:
    """Tip-Adapter's logits.

    Args:
        features: f (n, De), unit length.
        classes: W (C, De), unit length.
        keys: F (N, De); unit length unless trained.
        values: Y (N, C), one-hot; a row of zeros for a shot whose class is not among the C.
        logit_scale: exp(t).

    Returns:
        (n, C).
    """
    affinity = torch.exp(-BETA * (1 - features @ keys.T))
    return logit_scale * features @ classes.T + ALPHA * affinity @ values


def trained_keys(features: Tensor, labels: Tensor, classes: Tensor, logit_scale: float, seed: int) -> Tensor:
    """Tip-Adapter-F's keys (N, De): F trained by AdamW, 20 epochs, cosine from 1e-3, as in its public code.

    Args:
        features: the shots' (N, De), unit length: both what is classified and what F starts from.
        labels: (N,) int64.
        classes: (C, De), unit length.
        logit_scale: exp(t).
        seed: of the order of batches.
    """
    keys = features.clone().requires_grad_()
    values = F.one_hot(labels, len(classes)).to(features)
    optimizer = torch.optim.AdamW([keys], lr=_LR, eps=1e-4)
    batches = list(_batches(len(labels), seed))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for chosen in batches:
        logits = tip_logits(features[chosen], classes, keys, values, logit_scale)
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits, labels[chosen]))
        optimizer.step()
        schedule.step()
    return keys.detach()


def _batches(count: int, seed: int) -> Iterator[Tensor]:
    random = np.random.default_rng(seed)
    for _ in range(_EPOCHS):
        yield from torch.split(torch.from_numpy(random.permutation(count)), _BATCH)


def _quarter(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of three quarters of every class's shots, and of the rest; one shot alone is in both."""
    random = np.random.default_rng(seed)
    inner, held = [], []
    for label in range(int(labels.max()) + 1):
        rows = random.permutation(torch.where(labels == label)[0].cpu().numpy())
        cut = max(1, len(rows) // 4)
        held += rows[:cut].tolist()
        inner += rows[cut:].tolist() or rows.tolist()
    return torch.tensor(inner), torch.tensor(held)


def _logistic(x: Tensor, labels: Tensor, classes: int, strength: float) -> tuple[Tensor, Tensor]:
    """Weights (De, classes) and bias (classes,) by L-BFGS from zero."""
    weight = torch.zeros(x.shape[1], classes, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    optimizer: Any = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, labels) + strength * weight.square().sum() / 2
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
