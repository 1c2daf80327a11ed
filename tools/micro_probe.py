"""Linear probes: what a frozen image tower's features are worth on real photographs.

Multinomial logistic regression on frozen, pooled image features (before the projection to the shared space,
as is usual for probes), each feature standardised by the training shots, the same for a trained and an
untrained tower. The L2 strength is chosen on a quarter of the training shots, then all are used: the test
images decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.nn import functional as F

from rmatk.backbones.micro import MODEL as micro

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

Features = tuple[torch.Tensor, torch.Tensor]


def preprocess(images: Sequence[Image.Image]) -> torch.Tensor:
    """open_clip's evaluation transform: Pillow images to (N, 3, H, W) float32."""
    transform = image_transform_v2(PreprocessCfg(**micro.config()["preprocess_cfg"]), is_train=False)
    return torch.stack([transform(image) for image in images])


def read_folder(folder: Path, shots: int | None = None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """An ImageFolder as tensors: images (N, 3, H, W) and labels (N,); at most ``shots`` per class, drawn
    by ``seed``.
    """
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for label, place in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
        files = sorted(p for p in place.iterdir() if p.is_file())
        if shots is not None:
            files = [files[i] for i in sorted(rng.permutation(len(files))[:shots])]
        images += [
            preprocess([Image.open(file, formats=("JPEG", "PNG")).convert("RGB")])[0] for file in files
        ]
        labels += [label] * len(files)
    return torch.stack(images), torch.tensor(labels)


@torch.no_grad()
def pooled(model: CLIP, images: torch.Tensor) -> torch.Tensor:
    """The image tower's output before its projection: (N, 3, H, W) -> (N, width)."""
    projection, model.visual.proj = model.visual.proj, None
    try:
        return torch.cat([model.encode_image(part) for part in images.split(128)])
    finally:
        model.visual.proj = projection


def fit(x: torch.Tensor, y: torch.Tensor, classes: int, strength: float) -> torch.nn.Linear:
    """Logistic regression by LBFGS from zero: x (N, D), y (N,)."""
    linear = torch.nn.Linear(x.shape[1], classes)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    opt = torch.optim.LBFGS(linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = F.cross_entropy(linear(x), y) + strength * linear.weight.square().sum() / 2
        loss.backward()
        return loss

    opt.step(closure)
    return linear


def accuracy(linear: torch.nn.Linear, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of rows classified right."""
    return float((linear(x).argmax(1) == y).float().mean())


def split_shots(y: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of three quarters of every class's shots, and of the rest."""
    rng = np.random.default_rng(seed)
    fit_on, check_on = [], []
    for label in y.unique():
        rows = rng.permutation(torch.where(y == label)[0].numpy())
        cut = max(1, len(rows) // 4)
        check_on += rows[:cut].tolist()
        fit_on += rows[cut:].tolist()
    return torch.tensor(fit_on), torch.tensor(check_on)


def probe(train: Features, test: Features, seed: int = 0) -> tuple[float, float]:
    """Test accuracy of the probe, and the validation accuracy that chose its L2 strength (mean of three
    splits).
    """
    x, y = train
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, xt = (x - mean) / std, (test[0] - mean) / std
    classes = int(y.max()) + 1
    scores = {}
    for strength in STRENGTHS:
        parts = [split_shots(y, seed + s) for s in range(3)]
        scores[strength] = float(
            np.mean([accuracy(fit(x[a], y[a], classes, strength), x[b], y[b]) for a, b in parts])
        )
    best = max(scores, key=lambda strength: scores[strength])
    return accuracy(fit(x, y, classes, best), xt, test[1]), scores[best]
