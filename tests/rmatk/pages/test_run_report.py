from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest

from rmatk.calibration import Calibration, calibrate
from rmatk.config import TrainConfig
from rmatk.data.photos import read_folder
from rmatk.deployment.from_run import export_source
from rmatk.pages.html import confusion, curve, rows
from rmatk.pages.run_report import ValidationAnswers, write_report
from rmatk.run import restore
from rmatk.training.train import train
from rmatk_runtime.bundle.label_head import softmax

CONFIG = TrainConfig(shots=3, epochs=2, batch=5, lr=0.01, rank=4, precision="fp32")


@pytest.fixture
def run(tiny, draw_photos, tmp_path, monkeypatch):
    """8 classes with 3 validation shots each: enough to calibrate, were the tiny model right more often."""
    monkeypatch.setattr("rmatk.calibration.LEAST_RIGHT", 1)
    names = [f"&kind_{n}" for n in "abcdefgh"]
    data = draw_photos(tmp_path / "photos", dict.fromkeys(names, 6))
    return train(CONFIG, tiny, data, tmp_path / "run")


def test_the_page_holds_curves_tables_and_settings(run, check_html):
    page = (run.path / "report.html").read_text(encoding="utf-8")
    check_html(page)
    for term in ("lr", "accuracy", "loss", "ce", "image_rec", "text_rec", "image_con", "text_con"):
        assert f'aria-label="{term}"' in page
    for photos, count in (
        ("validation photos, not trained on", 24),
        ("training photos, which it has seen", 24),
    ):
        assert re.search(rf"adapted, on {count} {photos} \(95 %: [0-9.]+ to [0-9.]+\)", page)
    for name in (*TrainConfig.__struct_fields__, run.record.backbone_digest, "temperature", "&amp;kind d"):
        assert name in page, name


def test_the_run_is_calibrated_on_its_validation_shots_and_the_bundle_carries_it(run, tiny):
    record = run.record
    model = restore(run, tiny)
    shots = read_folder(run.path.parent / "photos")
    index = {
        path.relative_to(shots.root).as_posix(): label for path, label in zip(*shots.flat(), strict=True)
    }
    labels = np.array([index[name] for name in record.validation_files])
    from rmatk.training.cache import cache_images, cache_texts, class_logits

    files = [shots.root / name for name in record.validation_files]
    images = cache_images(model, files, labels.tolist(), tiny.preprocess)
    text = cache_texts(model, record.class_names, record.config.templates)
    expected = calibrate(class_logits(model, images, text)[0].numpy(), labels, 8)
    assert len(labels) == 24 == record.calibration.images
    assert record.calibration.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert expected.reject_threshold is not None
    assert record.calibration.reject_threshold == pytest.approx(expected.reject_threshold, rel=1e-4)
    changed = Calibration(temperature=1.5, reject_threshold=0.25, images=24)
    other = msgspec.structs.replace(record, calibration=changed)
    decision = export_source(type(run)(run.path, other, run.adapter), tiny, golden=8).decision
    assert (decision.temperature, decision.reject_threshold) == (1.5, 0.25)


def test_the_surest_mistakes_come_first(run, draw_photos, tmp_path):
    shots = read_folder(draw_photos(tmp_path / "three", {"blue_dot": 8, "green_check": 8, "red_stripe": 8}))
    logits = np.zeros((24, 3))
    logits[np.arange(24), shots.flat()[1]] = 3
    logits[2, 1], logits[9, 2] = 4, 6
    answers = ValidationAnswers(shots, softmax(logits), np.zeros(24, np.int64))
    write_report(run.path, run.record, answers)
    page = (run.path / "report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert [c.split(",")[0] for c in captions] == [
        "green check: taken for red stripe",
        "blue dot: taken for green check",
    ]
    assert "blue dot: 7 taken for blue dot" in page and "blue dot: 1 taken for green check" in page
    shown = "<td>green check</td><td>8</td><td>0.0% (0.0 to 32.4)</td><td>87.5% (52.9 to 97.8)</td>"
    assert shown in page and "<td>blue dot</td><td>8</td><td>100.0% (67.6 to 100.0)</td>" in page


def test_without_validation_photos_the_page_says_so(tiny, photos, tmp_path):
    run = train(msgspec.structs.replace(CONFIG, shots=8), tiny, photos, tmp_path / "run")
    page = (run.path / "report.html").read_text()
    assert "no photos to spare" in page
    assert "<td>a photo of a {}.</td>" in page and "None" not in page  # as written, not as Python shows it
    assert run.record.calibration.temperature == 1.0 and run.record.calibration.reject_threshold is None


def test_a_curve_spans_its_box_and_long_ones_are_averaged():
    points = re.search(r'points="([^"]*)"', curve("loss", [3.0, 1.0, 2.0]))
    assert points and points[1] == "8.0,28.0 150.0,92.0 292.0,60.0"
    assert len(re.search(r'points="([^"]*)"', curve("loss", np.arange(5000.0)))[1].split()) == 400
    assert "8.0,92.0" in curve("flat", [2.0])


def test_cells_and_names_are_escaped():
    assert rows([("<b>", "&")]) == "<tr><td>&lt;b&gt;</td><td>&amp;</td></tr>"
    shown = confusion(["<a>", "b"], np.array([[1, 2], [0, 0]]))
    assert "<a>" not in shown and "&lt;a&gt;: 2 taken for b" in shown
    assert "<text" in confusion([str(n) for n in range(60)], np.eye(60, dtype=int))
    assert "<text" not in confusion([str(n) for n in range(61)], np.eye(61, dtype=int))
