"""The image tower: set from EfficientNet-Lite0 so that it starts as good as its teacher, then trained.

Tokens are the teacher's 7 x 7 last features (1,280 channels), centred, on 256 directions that its classifier
reads and 128 that it does not; the blocks start as identities and the head reads the first 256. The mean of
the tokens is then the teacher's feature in the joint space, exactly. Only blocks, positions, the last norm
and the head are trained: the stem is frozen, so its maps are computed once per photo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from targets import joint_basis
from torch import Tensor, nn

CHUNK = 256


@torch.inference_mode()
def features(teacher: Any, maps: Tensor) -> Tensor:
    """Stem maps (N, 49, 320) -> the teacher's last features, before pooling (N, 49, 1280)."""
    square = maps.float().transpose(1, 2).unflatten(2, (7, 7))
    return teacher.bn2(teacher.conv_head(square)).flatten(2).transpose(1, 2)


def token_basis(rows: Tensor, tokens: Tensor, width: int) -> Tensor:
    """Orthonormal (1280, width): the joint space's directions, then the leading ones of what they leave."""
    joint = joint_basis(rows)
    left = tokens - (tokens @ joint) @ joint.T
    _, vectors = torch.linalg.eigh(left.T @ left)
    return torch.cat([joint, vectors[:, joint.shape[1] - width :].flip(1)], dim=1)


@torch.no_grad()
def set_from_teacher(visual: Any, teacher: Any, maps: Tensor) -> None:
    """Give an image tower the teacher's stem and the start that the module describes.

    ``maps``: stem maps (N, 49, 320) of photos, from which means and directions are taken.
    """
    trunk, rows = visual.trunk, teacher.classifier.weight
    stem = trunk.patch_embed.backbone
    stem.load_state_dict({k: v for k, v in teacher.state_dict().items() if not k.startswith("classifier.")})
    tokens = torch.cat([features(teacher, part) for part in maps.split(CHUNK)]).flatten(0, 1)
    centred = tokens - tokens.mean(0)
    basis = token_basis(rows, centred, trunk.embed_dim)
    basis = basis / (centred @ basis).square().mean().sqrt()
    trunk.patch_embed.proj.weight.copy_(basis.T[:, :, None, None])
    trunk.patch_embed.proj.bias.copy_(-tokens.mean(0) @ basis)
    trunk.pos_embed.zero_()
    for block in trunk.blocks:
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.mlp.fc2.weight)
    head = visual.head.proj.weight
    head.copy_(torch.eye(*head.shape))


@torch.inference_mode()
def stem_tokens(visual: Any, teacher: Any, maps: Tensor) -> Tensor:
    """Stem maps (N, 49, 320) -> what the first block reads but for positions (N, 49, 384) float16."""
    proj = visual.trunk.patch_embed.proj
    weight, bias = proj.weight.flatten(1), proj.bias
    parts = [F.linear(features(teacher, part), weight, bias).half() for part in maps.split(CHUNK)]
    return torch.cat(parts)


def encode(visual: Any, tokens: Tensor) -> Tensor:
    """Stem tokens (N, L, 384), with positions -> (N, 256), unit length."""
    trunk = visual.trunk
    return F.normalize(visual.head(trunk.forward_head(trunk.norm(trunk.blocks(tokens)))).float(), dim=-1)


@dataclass(frozen=True)
class ImagePairs:
    """Photos as stem ``tokens`` (N, 49, 384) float16 and what is known of them.

    ``teacher`` (N, 256): the teacher's feature in the joint space; ``probabilities`` (N, 1000) float16 of
    its classes, whose vectors are ``rows`` (1000, 256); ``texts`` (T, 256): vectors of captions and names,
    of which photo n has those from ``first[n]`` to ``first[n] + count[n]``; ``weights`` (N,) to draw by.
    """

    tokens: Tensor
    teacher: Tensor
    probabilities: Tensor
    rows: Tensor
    texts: Tensor
    first: np.ndarray[Any, np.dtype[np.int64]]
    count: np.ndarray[Any, np.dtype[np.int64]]
    weights: np.ndarray[Any, np.dtype[np.float64]]


def image_loss(visual: Any, pairs: ImagePairs, rng: np.random.Generator, batch: int, keep: int) -> Tensor:
    """Stay near the teacher's feature and classes, and near the photo's own text rather than others'.

    ``keep`` of the 49 tokens of each photo are drawn.
    """
    rows = rng.choice(len(pairs.tokens), batch, p=pairs.weights)
    x = pairs.tokens[rows].float() + visual.trunk.pos_embed
    drawn = torch.from_numpy(rng.permuted(np.tile(np.arange(49), (batch, 1)), axis=1)[:, :keep])
    x = x.gather(1, drawn[..., None].expand(-1, -1, x.shape[2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encode(visual, x)
    guess = F.log_softmax(20 * found @ pairs.rows.T, dim=1)
    classes = F.kl_div(guess, pairs.probabilities[rows].float(), reduction="batchmean")
    near = 1 - (found * pairs.teacher[rows]).sum(1).mean()
    text = pairs.texts[pairs.first[rows] + rng.integers(pairs.count[rows])]
    truth = F.softmax(40 * text @ text.T, dim=1)
    likeness = 20 * found @ text.T
    contrast = F.kl_div(F.log_softmax(likeness, dim=1), truth, reduction="batchmean")
    contrast = contrast + F.kl_div(F.log_softmax(likeness.T, dim=1), truth, reduction="batchmean")
    return 3 * near + 0.5 * classes + 0.5 * contrast
