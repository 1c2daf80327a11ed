"""From embeddings to answers: probabilities from the formula, ties, top-k, threshold."""

from __future__ import annotations

import numpy as np
import pytest

from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import ConfigError

CLASSES = ClassMatrix(("red", "green", "blue"), np.eye(3, dtype=np.float32))


def answers(reject: float | None = None, **options) -> LabelHead:
    return LabelHead(CLASSES, Decision(logit_scale=10.0, reject_threshold=reject), **options)


def row(*probabilities: float) -> np.ndarray:
    return np.array(probabilities, np.float32)


def test_probabilities_are_the_formula():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(4, 3)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    logits = embeddings.astype(np.float64) @ CLASSES.embeddings.T * (100.0 / 2.5)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = LabelHead(CLASSES, Decision(logit_scale=100.0, temperature=2.5)).probabilities(embeddings)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_best_first_and_ties_in_class_order():
    assert [s.label for s in answers().predict(row(0.1, 0.6, 0.3)).top] == ["green", "blue", "red"]
    assert [s.label for s in answers().predict(row(0.3, 0.4, 0.3)).top] == ["green", "red", "blue"]


def test_threshold_rejects_below_it_and_the_callers_goes_before_the_bundles():
    assert answers().predict(row(0.4, 0.3, 0.3)).label == "red"
    unsure = answers(reject=0.5).predict(row(0.4, 0.3, 0.3))
    assert unsure.rejected and unsure.label is None and unsure.top[0].label == "red"
    assert answers(reject=0.5, threshold=0.0).predict(row(0.4, 0.3, 0.3)).label == "red"
    assert answers(threshold=0.5).predict(row(0.5, 0.3, 0.2)).label == "red"


def test_top_k_is_capped_and_options_are_checked():
    assert len(answers(top_k=99).predict(row(0.4, 0.3, 0.3)).top) == 3
    with pytest.raises(ConfigError, match="top_k must be at least 1, not 0"):
        answers(top_k=0)
    with pytest.raises(ConfigError, match="threshold must be between"):
        answers(threshold=1.5)
