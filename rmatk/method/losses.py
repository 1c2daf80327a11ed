"""The three terms of RMAdapter's loss, L = L_ce + L_rec + L_con, each returned separately.

    L_ce  = cross entropy of  exp(t) <image^a, text^a_c>  over the classes c; t is CLIP's own, frozen
    L_rec = l1 * sum_i MSE(recon_i(u_i), u_i)  over the image tower's adapted blocks  +  l2 * the same, text
    L_con = l3 * |image^a - image|_1 + l4 * |text^a - text|_1    ^a: adapted; else frozen; all of unit length

Norms are literal: |.|_1 sums over features and is then averaged over images or classes. MSE averages over
features and over real tokens: of a prompt those up to and including end-of-text (ours: otherwise the
length of the padding would change the loss).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDING = 1e-6
"""Of an entry of a unit-length feature computed twice in float32."""


@dataclass(frozen=True)
class LossTerms:
    """The weighted terms, scalars; their sum is what is minimised."""

    ce: Tensor
    image_rec: Tensor
    text_rec: Tensor
    image_con: Tensor
    text_con: Tensor

    @property
    def total(self) -> Tensor:
        """L = L_ce + L_rec + L_con."""
        return self.ce + self.image_rec + self.text_rec + self.image_con + self.text_con

    def values(self) -> dict[str, float]:
        """Every term by name, and ``loss``, their sum."""
        named = {
            "loss": self.total,
            **vars(self),
        }  # stacked: on a GPU every read waits for all work before it
        return dict(zip(named, torch.stack(list(named.values())).tolist(), strict=True))


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """L_ce: logits (N, C), labels (N,) int64 -> scalar."""
    return F.cross_entropy(logits, labels)


def reconstruction_error(reconstructed: Tensor, target: Tensor, lengths: Tensor | None) -> Tensor:
    """MSE over features and real tokens.

    Args:
        reconstructed: (N, L, D).
        target: (N, L, D).
        lengths: real tokens of each sample (N,) int64; None: all L are.

    Returns:
        scalar.
    """
    if lengths is None:
        return F.mse_loss(reconstructed, target)
    real = torch.arange(target.shape[1], device=target.device) < lengths[:, None]
    return F.mse_loss(reconstructed[real], target[real])


def consistency(adapted: Tensor, frozen: Tensor) -> Tensor:
    """|adapted - frozen|_1: features (N, De) each -> scalar, summed over De and averaged over N.

    Untrained adapters give CLIP's features but for rounding, and the norm's gradient there would be the signs
    of rounding errors: other ones for another batch size. So a difference below :data:`ROUNDING` counts as
    none (ours).
    """
    difference = (adapted - frozen).abs()
    return difference.where(difference > ROUNDING, 0.0).sum(dim=-1).mean()
