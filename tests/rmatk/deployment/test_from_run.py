"""From a run to a bundle's ingredients: golden set, class matrix, adapters, and photos that went missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rmatk.deployment.from_run import export_source
from rmatk.deployment.golden_pictures import embed
from rmatk.run import restore
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.preprocess import preprocess, tensor_digest


def test_golden_set_holds_every_class_and_the_smallest_margins(tiny_run, tiny):
    source = export_source(tiny_run, tiny, golden=7)
    golden, classes = source.golden, source.classes
    assert len(golden.images) == 7 and set(golden.labels) == set(classes.names)
    everything = export_source(tiny_run, tiny, golden=10_000).golden
    assert len(everything.images) == len(tiny_run.record.train_files) == 18

    def margins(embeddings: np.ndarray) -> np.ndarray:
        best = np.sort(embeddings @ classes.embeddings.T, axis=1)
        return best[:, -1] - best[:, -2]

    hardest = sorted(zip(margins(everything.embeddings), everything.names, strict=True))
    assert {name for _, name in hardest[:4]} <= set(golden.names)
    assert len(export_source(tiny_run, tiny, golden=1).golden.images) == 3


def test_golden_embeddings_and_digests_are_pytorchs(tiny_run, tiny):
    golden = export_source(tiny_run, tiny).golden
    model = restore(tiny_run, tiny)
    tensors = [preprocess(image, tiny.preprocess) for image in golden.images]
    assert golden.digests == tuple(tensor_digest(tensor) for tensor in tensors)
    expected = model.encode_images(torch.from_numpy(np.stack(tensors))).numpy()
    np.testing.assert_allclose(golden.embeddings, expected, atol=1e-6)
    images = list(golden.images)
    np.testing.assert_allclose(embed(model, images, tiny.preprocess, batch=5), expected, atol=1e-6)


def test_class_matrix_is_the_adapted_text_towers(tiny_run, tiny):
    source = export_source(tiny_run, tiny)
    model = restore(tiny_run, tiny)
    expected = model.class_embeddings(source.classes.names, source.templates)
    np.testing.assert_array_equal(source.classes.embeddings, expected.numpy())
    assert source.class_tokens.shape[:2] == (3, 1)
    assert source.decision.logit_scale == pytest.approx(tiny.logit_scale)


def test_only_the_adaptation_branch_travels(tiny_run, tiny):
    """No array of the towers equals a reconstruction tensor, and every adaptation tensor is there."""
    model = restore(tiny_run, tiny)
    source = export_source(tiny_run, tiny)
    held = [
        array
        for tower in (source.image, source.text)
        for block in tower.blocks
        if block.adapter is not None
        for linear in (block.adapter.down, block.adapter.up)
        for array in (linear.weight, linear.bias)
    ]
    for tower in ("image", "text"):
        for arrays in model.adapter_arrays(tower).values():
            for name, array in arrays.items():
                travels = any(a.shape == array.shape and np.array_equal(a, array) for a in held)
                assert travels == (not name.startswith("rec")), name


def test_moved_and_missing_photos(tiny_run, tiny, tmp_path: Path):
    moved = Path(shutil.copytree(tiny_run.record.data, tmp_path / "moved"))
    same = export_source(tiny_run, tiny, data=moved).golden
    assert same.names == export_source(tiny_run, tiny).golden.names
    (moved / tiny_run.record.train_files[0]).unlink()
    with pytest.raises(DataError, match="1 training photos are missing"):
        export_source(tiny_run, tiny, data=moved)
    with pytest.raises(DataError, match="are not at .*nowhere any more") as caught:
        export_source(tiny_run, tiny, data=tmp_path / "nowhere")
    assert "--data" in (caught.value.hint or "")
