"""Muon's update against the singular value decomposition and against the formula, in float64."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools" / "muon.py"


@pytest.fixture(scope="module")
def muon() -> ModuleType:
    spec = importlib.util.spec_from_file_location("muon", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["muon"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shape", [(12, 12), (8, 40), (40, 8)])
def test_singular_values_come_close_to_one_and_directions_stay(muon: ModuleType, shape: tuple[int, int]):
    matrix = np.random.default_rng(0).normal(size=shape)
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    found = muon.orthogonal(torch.tensor(matrix)[None])[0].numpy()
    turned = u.T @ found @ vt.T
    assert np.abs(turned - np.diag(np.diag(turned))).max() < 1e-6
    assert np.diag(turned).min() > 0.6 and np.diag(turned).max() < 1.3


def test_a_step_is_momentum_made_orthogonal_and_scaled_like_adamw(muon: ModuleType):
    random = np.random.default_rng(1)
    weight = random.normal(size=(6, 10))
    grads = random.normal(size=(2, 6, 10))
    parameter = torch.nn.Parameter(torch.tensor(weight))
    optimiser = muon.Muon([parameter], lr=0.01, weight_decay=0.1)
    buffer = np.zeros((6, 10))
    for grad in grads:
        parameter.grad = torch.tensor(grad)
        optimiser.step()
        buffer = 0.95 * buffer + 0.05 * grad
        direction = 0.05 * grad + 0.95 * buffer
        update = muon.orthogonal(torch.tensor(direction)[None])[0].numpy()
        weight = weight * (1 - 0.01 * 0.1) - 0.01 * 0.2 * np.sqrt(10) * update
    np.testing.assert_allclose(parameter.detach().numpy(), weight, atol=1e-12)


def test_q_k_and_v_are_three_matrices(muon: ModuleType):
    grad = torch.tensor(np.random.default_rng(2).normal(size=(12, 4)))
    together, apart = torch.nn.Parameter(torch.zeros(12, 4, dtype=torch.float64)), []
    together.grad = grad
    muon.Muon([together], lr=1.0).step()
    for part in grad.chunk(3):
        apart.append(torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.float64)))
        apart[-1].grad = part
    muon.Muon(apart, lr=1.0).step()
    np.testing.assert_allclose(together.detach(), torch.cat(apart).detach(), atol=1e-12)
