"""Figures of a bundle: the right calls in the right stages, every format or the reason why not."""

from __future__ import annotations

import json
import time
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import pytest

from rmatk_runtime.backend import Backend, DeviceTimes
from rmatk_runtime.bench import measure as module
from rmatk_runtime.bench.measure import STAGES, BenchPictures, BenchPlan, Spread, bench, measure
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.errors import BackendError, DataError, SourceError
from rmatk_runtime.inference.classifier import Classifier

PLAN = BenchPlan(backends=("cpu",), precisions=("fp32",), repeats=3, warmup=1)


class Slow(Backend):
    """Takes 20 ms, and says that 15 minutes of them went into copies: far from any noise of the machine."""

    name = "slow"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def embed(self, images):
        self.sizes.append(len(images))
        time.sleep(0.02)
        self.times = DeviceTimes(upload=6e5, compute=5.0, download=3e5)
        return np.full((len(images), 24), 24**-0.5, np.float32)


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def test_percentiles_are_numpys():
    values = np.random.default_rng(0).random(1000) * 10
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(np.sum(values) / 1000, abs=1e-4)
    expected = np.sort(values)[[499, 899, 989]]  # between neighbours that lie 0.01 apart
    np.testing.assert_allclose([spread.p50, spread.p90, spread.p99], expected, atol=0.05)


def test_stages_are_told_apart(bundle: Bundle):
    engine = Slow()
    classifier = Classifier(
        engine, bundle.manifest.preprocess, LabelHead(bundle.classes(), bundle.manifest.decision)
    )

    def pictures():
        for picture in repeat(np.zeros((40, 40, 3), np.uint8)):
            time.sleep(0.01)
            yield picture

    stages = measure(classifier, pictures(), 2, PLAN)
    assert tuple(stages) == STAGES and engine.sizes == [2, 2, 2, 2]
    assert all(len(values) == 3 for values in stages.values())
    assert min(stages["decode"]) >= 20.0
    np.testing.assert_array_equal(stages["copy"], 9e5)
    assert max(stages["infer"]) < 0.0  # what the engine counts as copies is not counted again
    assert min(stages["infer"] + stages["copy"]) >= 20.0
    assert min(stages["preprocess"]) > 0 and min(stages["post"]) > 0


def test_the_engine_is_chosen_for_the_largest_batch(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    asked: list[dict] = []

    def refuse(bundle: Bundle, name: str, **wishes: object) -> Backend:
        asked.append(wishes)
        raise BackendError("not today")

    monkeypatch.setattr(module, "open_backend", refuse)
    with pytest.raises(BackendError, match="not today"):
        bench(
            bundle,
            BenchPlan(backends=("tensorrt",), precisions=("fp32",), batches=(1, 8, 2)),
            BenchPictures(bundle),
        )
    assert asked == [{"precision": "fp32", "batch": 8, "threads": 0}]


def test_every_batch_size_is_a_row(bundle: Bundle):
    heard: list[tuple[str, int, int]] = []
    found = bench(
        bundle,
        BenchPlan(backends=("cpu",), precisions=("fp32",), batches=(1, 3), repeats=4, warmup=0),
        BenchPictures(bundle),
        lambda *now: heard.append(now),
    )
    assert [row.batch for row in found.rows] == [1, 3]
    assert heard == [("onnxruntime cpu fp32, batch 1", 0, 2), ("onnxruntime cpu fp32, batch 3", 1, 2)]
    assert found.pictures == "8 golden pictures, from memory" and not found.skipped
    for row in found.rows:
        assert set(row.stages) == {"preprocess", "infer", "post"}
        assert row.size == bundle.file("image_encoder.onnx").stat().st_size
        assert row.rate == pytest.approx(1e3 * row.batch / row.total.mean, rel=1e-3)
        assert row.engine_rate == pytest.approx(1e3 * row.batch / row.stages["infer"].mean, rel=1e-3)
        assert row.total.mean == pytest.approx(sum(stage.mean for stage in row.stages.values()), abs=1e-3)
        assert row.accuracy is None and row.peak is not None and row.after is not None


def test_accuracy_is_over_the_photos(bundle: Bundle, tiny_run):
    root = Path(tiny_run.record.data)
    photos = [(path, path.parent.name.replace("_", " ")) for path in sorted(root.glob("*/*.png"))]
    (row,) = bench(bundle, PLAN, BenchPictures(bundle, photos=photos)).rows
    with Classifier.open(bundle.path, backend="cpu") as classifier:
        answers = classifier.classify([module.load_image(path) for path, _ in photos])
    right = sum(answer.top[0].label == label for answer, (_, label) in zip(answers, photos, strict=True))
    assert row.accuracy == right / 24 and "decode" in row.stages


def test_pictures_of_a_file_do_not_end(bundle: Bundle, photos: Path):
    material = BenchPictures(bundle, source=str(photos / "blue_dot"))
    frames = list(islice(material, 20))
    np.testing.assert_array_equal(frames[0], frames[8])
    assert material.decodes and material.title == str(photos / "blue_dot")


def test_what_does_not_run_here_is_told_with_the_reason(bundle: Bundle):
    plan = BenchPlan(backends=("tensorrt", "cpu"), precisions=("fp32",), repeats=1, warmup=0)
    found = bench(bundle, plan, BenchPictures(bundle))
    assert len(found.rows) == 1
    (skipped,) = found.skipped
    assert skipped.backend == "tensorrt" and skipped.reason
    only = BenchPlan(backends=("tensorrt",), precisions=("fp32",))
    with pytest.raises(BackendError, match="no format runs here"):
        bench(bundle, only, BenchPictures(bundle))


def test_photos_of_unknown_classes_and_live_sources_are_refused(bundle: Bundle, photos: Path):
    file = next(photos.glob("*/*.png"))
    with pytest.raises(DataError, match="does not know: cup"):
        bench(bundle, PLAN, BenchPictures(bundle, photos=[(file, "cup")]))
    with pytest.raises(SourceError, match="sets its own pace"):
        bench(bundle, PLAN, BenchPictures(bundle, source="test://64x48@30"))


def test_the_command_prints_tables_or_json(rmatk, tiny_bundle: Path, tiny_run):
    data = tiny_run.record.data
    short = ("--repeats", 2, "--warmup", 0, "--backend", "all")
    code, out, _ = rmatk("bench", tiny_bundle, "--batch", "1,2", "--data", data, *short)
    assert code == 0 and "accuracy" in out and "not run: cuda fp32" in out
    assert f"next: rmatk parity {tiny_bundle}" in out
    code, out, _ = rmatk("bench", tiny_bundle, "--json", *short)
    found = json.loads(out)
    assert code == 0 and found["rows"][0]["engine"] == "onnxruntime cpu" and found["machine"]["cores"] >= 1
    assert rmatk("bench", tiny_bundle, "--batch", "1,x")[0] == 2
    code, _, err = rmatk("bench", tiny_bundle, "--precision", "int8")
    assert code == 1 and "holds no int8 graph" in err
    code, out, _ = rmatk("bench", tiny_bundle, "--json", *short, "--precision", "fp32, fp32")
    assert code == 0 and {row["precision"] for row in json.loads(out)["rows"]} == {"fp32"}
    code, _, err = rmatk("bench", tiny_bundle, "--precision", "fp32,int8")
    assert code == 1 and "holds no int8 graph" in err
