"""Rendered golden sets: no photo in them, every size, every class that is reached, the smallest margins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rmatk.deployment.from_run import export_source
from rmatk.deployment.golden_pictures import TIE, rendered, rendered_golden
from rmatk.run import restore
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.golden import GoldenSet
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.preprocess import preprocess, tensor_digest


@pytest.fixture
def tiny_backbone(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the command line load the tiny backbone, whatever a run names."""
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda *names: tiny)


def test_equal_seeds_give_equal_pictures_of_the_sizes_asked_for():
    sizes = [(97, 61), (131, 389), (64, 64)]
    once, again, other = rendered(sizes), rendered(sizes), rendered(sizes, seed=1)
    for size, first, second, third in zip(sizes, once, again, other, strict=True):
        assert first.shape == (size[1], size[0], 3) and first.dtype == np.uint8
        np.testing.assert_array_equal(first, second)
        assert (first != third).any()


def test_it_holds_every_size_every_class_reached_and_the_smallest_margins(tiny_run, tiny):
    model, classes = restore(tiny_run, tiny), export_source(tiny_run, tiny).classes
    golden = rendered_golden(model, classes, 12, candidates=48)
    everything = rendered_golden(model, classes, 48, candidates=48)
    assert len(golden.images) == 12 and len(everything.images) == 48
    sizes = {image.shape[1::-1] for image in golden.images}
    assert len(sizes) == 9 and (32, 32) in sizes
    assert max(w / h for w, h in sizes) > 2.5 and max(h / w for w, h in sizes) > 2.5
    assert set(golden.labels) == set(everything.labels)

    cosines = np.sort(everything.embeddings @ classes.embeddings.T, axis=1)
    margins = dict(zip(everything.names, cosines[:, -1] - cosines[:, -2], strict=True))
    ties = {name for name, margin in margins.items() if margin < TIE}
    assert min(set(margins) - ties, key=margins.__getitem__) in golden.names
    assert ties and not ties & set(golden.names)
    assert np.median([margins[name] for name in golden.names]) < np.median(list(margins.values()))


def test_embeddings_digests_and_labels_are_pytorchs(tiny_run, tiny):
    model, classes = restore(tiny_run, tiny), export_source(tiny_run, tiny).classes
    golden = rendered_golden(model, classes, 9, candidates=9)
    tensors = [preprocess(image, tiny.preprocess) for image in golden.images]
    expected = model.encode_images(torch.from_numpy(np.stack(tensors))).numpy()
    np.testing.assert_allclose(golden.embeddings, expected, atol=1e-6)
    assert golden.digests == tuple(map(tensor_digest, tensors))
    best = (expected @ classes.embeddings.T).argmax(axis=1)
    assert golden.labels == tuple(classes.names[i] for i in best)


def test_answers_are_softmax_by_hand():
    classes = ClassMatrix(("left", "right", "up"), np.eye(3, dtype=np.float32))
    embeddings = np.array([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0]], np.float32)
    pictures = ((np.zeros((1, 1, 3), np.uint8),) * 2, ("a", "b"), ("left", "right"), ("", ""), embeddings)
    golden = GoldenSet(*pictures, "photos")
    found = golden.answers(classes, Decision(logit_scale=10.0, temperature=2.0))
    probabilities = np.exp([4.0, 3.0, 0.0]) / np.exp([4.0, 3.0, 0.0]).sum()
    assert found.classes == ("left", "right")
    assert found.smallest_margin == pytest.approx(probabilities[0] - probabilities[1])
    assert golden.truth(classes.names) == ("left", "right") and golden.truth(("left",)) is None
    assert GoldenSet(*pictures, "rendered").truth(classes.names) is None


def test_rendered_needs_no_photos_and_claims_no_accuracy(tiny_run, tiny, tmp_path: Path):
    source = export_source(tiny_run, tiny, golden="rendered", data=tmp_path / "gone")
    from rmatk_export.bundle_writer import write_bundle

    report = write_bundle(source, tmp_path / "bundle")
    assert all(report.stages) and not any(stage.accuracy for stage in report.stages)
    assert not any(stage.reference_accuracy or stage.accuracy_difference for stage in report.stages)
    entry = Bundle.open(tmp_path / "bundle").manifest.golden
    assert entry is not None and entry.source == "rendered" and entry.images == 32
    with pytest.raises(DataError) as caught:
        export_source(tiny_run, tiny, data=tmp_path / "gone")
    assert "--golden rendered" in (caught.value.hint or "")


@pytest.mark.usefixtures("tiny_backbone")
class TestAsTyped:
    """Each kind through export, info and parity: what is said of the pictures, and what is not."""

    def export(self, rmatk: Callable[..., tuple[int, str, str]], run: Path, out: Path, kind: str) -> str:
        code, printed, error = rmatk("export", run, "-o", out, "--golden", kind)
        assert code == 0, error
        return " ".join(printed.split())

    def test_photos(self, rmatk, tiny_run, tmp_path: Path):
        said = self.export(rmatk, tiny_run.path, tmp_path / "b", "5")
        assert "5 of your own training photos" in said and "--golden rendered, or --golden none" in said
        assert "5 of the user's own photos" in rmatk("info", tmp_path / "b")[1]
        record = json.loads(rmatk("info", tmp_path / "b", "--json")[1])["golden"]
        assert record["source"] == "photos" and record["images"] == 5
        assert record["bytes"] == (tmp_path / "b" / "golden.npz").stat().st_size
        assert 0 <= record["smallest_margin"] < 1 and record["answers"]
        result = json.loads(rmatk("parity", tmp_path / "b", "--json")[1])
        assert result["stages"][1]["accuracy"] is not None and "5 training photos" in result["basis"]

    def test_rendered(self, rmatk, tiny_run, tmp_path: Path):
        said = self.export(rmatk, tiny_run.path, tmp_path / "b", "rendered")
        assert "32 rendered pictures" in said and "none of your photos" in said
        assert "32 rendered pictures, no photos" in rmatk("info", tmp_path / "b")[1]
        code, out, _ = rmatk("parity", tmp_path / "b")
        assert code == 0 and "nothing is said of accuracy" in out
        result = json.loads(rmatk("parity", tmp_path / "b", "--json")[1])
        assert result["stages"][1]["accuracy"] is None and result["stages"][1]["agreement"] == 1.0

    def test_none(self, rmatk, tiny_run, tmp_path: Path):
        code, out, _ = rmatk("export", tiny_run.path, "-o", tmp_path / "b", "--golden", "rendered", "--json")
        assert code == 0 and json.loads(out)["golden"]["source"] == "rendered"
        code, out, _ = rmatk("export", tiny_run.path, "-o", tmp_path / "b", "--golden", "none", "--json")
        assert code == 0 and json.loads(out)["golden"] is None
        said = self.export(rmatk, tiny_run.path, tmp_path / "b", "none")
        assert "the bundle contains no pictures" in said and "rmatk parity" not in said.split("next:")[1]
        assert "none: this bundle cannot check itself" in rmatk("info", tmp_path / "b")[1]
        code, _, error = rmatk("parity", tmp_path / "b")
        assert code == 1 and "--golden rendered" in error
