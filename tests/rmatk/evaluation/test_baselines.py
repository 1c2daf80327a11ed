from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from rmatk.evaluation.baselines import LinearProbe, tip_logits, trained_keys


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_tip_adapters_logits_are_the_formulas():
    features, classes, keys = unit(4, 0), unit(3, 1), unit(5, 2)
    values = F.one_hot(torch.tensor([0, 2, 2, 1, 0]), 3).float()
    f, w, k, y = (t.numpy() for t in (features, classes, keys, values))
    expected = np.zeros((4, 3))
    for n in range(4):
        for c in range(3):
            cache = sum(1.0 * np.exp(-5.5 * (1 - f[n] @ k[s])) * y[s, c] for s in range(5))
            expected[n, c] = 20 * f[n] @ w[c] + cache
    np.testing.assert_allclose(tip_logits(features, classes, keys, values, 20.0).numpy(), expected, rtol=1e-5)


def test_training_the_keys_lowers_the_loss_and_repeats():
    features, classes = unit(30, 0), unit(3, 1)
    labels = torch.arange(30) % 3
    values = F.one_hot(labels, 3).float()

    def loss(keys: torch.Tensor) -> float:
        return F.cross_entropy(tip_logits(features, classes, keys, values, 10.0), labels).item()

    keys = trained_keys(features, labels, classes, 10.0, seed=1)
    assert loss(keys) < loss(features)
    assert torch.equal(keys, trained_keys(features, labels, classes, 10.0, seed=1))


def test_a_linear_probe_finds_what_is_linear():
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = F.one_hot(labels, 3).float() @ torch.randn(3, 8, generator=random) * 3
    features = features + 0.3 * torch.randn(90, 8, generator=random) + 5
    probe = LinearProbe(features[:60], labels[:60], 3, seed=1)
    assert probe.logits(features[60:]).argmax(dim=-1).equal(labels[60:])


def test_a_linear_probe_minimises_its_loss():
    labels = torch.arange(24) % 2
    features = unit(24, 3)
    probe = LinearProbe(features, labels, 2, seed=1)
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    x = (features - features.mean(0)) / (features.std(0) + 1e-6)
    loss = F.cross_entropy(x @ weight + bias, labels) + probe.strength * weight.square().sum() / 2
    loss.backward()
    assert weight.grad.abs().max() < 1e-3
    assert bias.grad.abs().max() < 1e-3


def test_one_shot_is_enough_for_a_linear_probe():
    probe = LinearProbe(unit(3, 0), torch.tensor([0, 1, 2]), 3, seed=1)
    assert probe.logits(unit(3, 0)).argmax(dim=-1).tolist() == [0, 1, 2]
