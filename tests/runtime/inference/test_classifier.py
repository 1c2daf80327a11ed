"""Pictures to labels, with a stand-in engine and with a real bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import BackendError, ConfigError
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.selection import open_backend

SPEC = PreprocessSpec(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CLASSES = ClassMatrix(("red", "green", "blue"), np.eye(3, dtype=np.float32))


class MeanColour(Backend):
    """The unit-length mean colour of each picture."""

    name = "mean colour"

    def embed(self, images: Float32) -> Float32:
        means = images.mean(axis=(2, 3))
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def colour(*rgb: int) -> np.ndarray:
    return np.full((20, 30, 3), rgb, dtype=np.uint8)


def classifier() -> Classifier:
    return Classifier(MeanColour(), SPEC, LabelHead(CLASSES, Decision(logit_scale=10.0)))


def test_preparing_then_embedding_is_classifying():
    answers = classifier()
    images = [colour(10, 200, 30), colour(250, 20, 20)]
    tensors = answers.prepare(images)
    assert tensors.shape == (2, 3, 8, 8) and tensors.dtype == np.float32
    probabilities = answers.head.probabilities(answers.backend.embed(tensors))
    assert [answers.head.predict(row) for row in probabilities] == answers.classify(images)
    assert answers.classify([]) == []


def test_a_real_bundle_gives_the_same_in_any_batch(tiny_bundle: Path):
    golden = Bundle.open(tiny_bundle).golden()
    assert golden is not None
    with Classifier.open(tiny_bundle, top_k=3) as answers:
        together = answers.classify(golden.images)
        alone = [answers.classify([image])[0] for image in golden.images]
        assert answers.backend.name == "onnxruntime cpu"
    for one, other in zip(together, alone, strict=True):
        assert one.label == other.label
        probabilities = [[score.probability for score in each.top] for each in (one, other)]
        np.testing.assert_allclose(*probabilities, atol=1e-5)


def test_engines_say_what_is_wrong(tiny_bundle: Path):
    bundle = Bundle.open(tiny_bundle)
    with open_backend(bundle, "cpu") as backend:
        with pytest.raises(BackendError, match=r"expected \(N, 3, 32, 32\) float32, got \(1, 3, 8, 8\)"):
            backend.embed(np.zeros((1, 3, 8, 8), np.float32))
        with pytest.raises(BackendError, match="float64"):
            backend.embed(np.zeros((1, 3, 32, 32)))
    with pytest.raises(ConfigError, match="backend 'quantum' is unknown"):
        open_backend(bundle, "quantum")
