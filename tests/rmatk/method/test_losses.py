from __future__ import annotations

import numpy as np
import pytest
import torch

from rmatk.method.losses import LossTerms, classification, consistency, reconstruction_error

random = np.random.default_rng(0)


def test_classification_is_the_mean_negative_log_softmax():
    logits = random.normal(size=(5, 3))
    labels = np.array([0, 2, 1, 1, 0])
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(softmax[np.arange(5), labels]).mean()
    assert classification(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(expected)


def test_consistency_is_the_l1_norm_averaged_over_samples():
    adapted, frozen = random.normal(size=(2, 4, 7))
    expected = sum(np.abs(a - f).sum() for a, f in zip(adapted, frozen, strict=True)) / 4
    assert consistency(torch.tensor(adapted), torch.tensor(frozen)).item() == pytest.approx(expected)


def test_reconstruction_error_is_the_mean_square_over_all_tokens_of_images():
    recon, target = random.normal(size=(2, 3, 5, 7))
    expected = np.mean((recon - target) ** 2)
    assert reconstruction_error(torch.tensor(recon), torch.tensor(target), None).item() == pytest.approx(
        expected
    )


def test_reconstruction_error_counts_real_tokens_of_prompts_only():
    recon, target = random.normal(size=(2, 3, 5, 7))
    lengths = [2, 5, 3]
    squares = [(recon[n, t] - target[n, t]) ** 2 for n, length in enumerate(lengths) for t in range(length)]
    found = reconstruction_error(torch.tensor(recon), torch.tensor(target), torch.tensor(lengths))
    assert found.item() == pytest.approx(np.mean(squares))


def test_rounding_is_no_difference_and_has_no_gradient():
    adapted = torch.tensor([[0.5, 0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    loss = consistency(adapted, torch.tensor([[0.5 + 1e-7, 0.5 - 1e-5, 0.5 + 1e-3]], dtype=torch.float64))
    assert loss.item() == pytest.approx(1e-5 + 1e-3)
    torch.autograd.backward(loss)
    assert adapted.grad.tolist() == [[0, 1, -1]]


def test_the_total_is_the_sum_of_all_terms():
    terms = LossTerms(*(torch.tensor(float(2**n)) for n in range(5)))
    assert terms.total.item() == 31
    assert terms.values() == {
        "loss": 31, "ce": 1, "image_rec": 2, "text_rec": 4, "image_con": 8, "text_con": 16
    }  # fmt: skip
