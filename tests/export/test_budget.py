"""What int8 costs in labels, told from few shots, and which products stay float for it."""

from __future__ import annotations

import math
from contextlib import suppress

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rmatk.deploy import export_source
from rmatk_export import budget as module
from rmatk_export.budget import CalibrationPhotos, Quantisation, quantise_within_budget
from rmatk_export.calibrate import products
from rmatk_export.fold import fold
from rmatk_export.graph import image_graph
from rmatk_runtime.errors import ExportError


@pytest.fixture(scope="module")
def int8_source(tiny_run, tiny):
    return export_source(tiny_run, tiny, golden=8, precisions=("fp32", "int8"))


@pytest.fixture(scope="module")
def model(int8_source) -> onnx.ModelProto:
    return image_graph(fold(int8_source.image))


def test_the_worst_loss_is_bounded_by_changes_and_by_what_many_shots_lost() -> None:
    few = Quantisation(
        float_products=(),
        int8_share=1.0,
        images=24,
        accuracy_fp32=0.5,
        accuracy_int8=0.5,
        expected_changes=0.01,
    )
    assert few.worst_loss == 0.01
    assert msgspec.structs.replace(few, accuracy_int8=0.55).worst_loss == 0.01  # one lucky shot
    many = msgspec.structs.replace(few, images=10_000, accuracy_int8=0.498)
    assert many.worst_loss == pytest.approx(0.002 + math.sqrt(0.01 / 10_000))


def test_the_budget_decides_which_products_stay_float(int8_source, model, monkeypatch):
    calibration: CalibrationPhotos = int8_source.calibration
    classes = int8_source.classes
    sound = module.quantise
    monkeypatch.setattr(module, "BUDGET", 0.2)  # of a tower with random weights
    graph, chosen = quantise_within_budget(model, calibration, classes)
    assert chosen.float_products == () and chosen.int8_share == 1.0 and chosen.worst_loss <= 0.2

    def one_breaks(graph: onnx.ModelProto, int8):
        result = sound(graph, int8)
        if "blocks.2.mlp_in.matmul" in int8:
            bias = next(w for w in result.graph.initializer if w.name.startswith("blocks.2.wide_out.bias"))
            broken = numpy_helper.to_array(bias) + np.linspace(-9, 9, 48, dtype=np.float32)
            bias.CopyFrom(numpy_helper.from_array(broken, bias.name))
        return result

    monkeypatch.setattr(module, "quantise", one_breaks)
    monkeypatch.setattr(module, "BUDGET", 0.02)
    graph, chosen = quantise_within_budget(model, calibration, classes)
    assert "blocks.2.mlp_in" in chosen.float_products and 0 < chosen.int8_share < 1
    assert chosen.worst_loss <= 0.02
    read = {name for node in graph.graph.node for name in node.input}
    assert all(f"{name}.weight" in read for name in chosen.float_products)

    monkeypatch.setattr(module, "BUDGET", -1.0)  # int8 would have to be better than float by a whole
    with pytest.raises(ExportError, match="whichever products stay float"):
        quantise_within_budget(model, calibration, classes)


def test_calibration_takes_training_photos_and_is_judged_on_validation_ones(int8_source, tiny_run):
    calibration: CalibrationPhotos = int8_source.calibration
    assert len(calibration.images) == len(tiny_run.record.train_files)
    assert len(calibration.shots) == len(calibration.labels) == len(tiny_run.record.validation_files)


def test_the_search_says_how_far_it_is(int8_source, model, monkeypatch):
    calibration: CalibrationPhotos = int8_source.calibration
    heard: list[tuple[str, int, int]] = []

    def run(budget: float) -> list[str]:
        heard.clear()
        monkeypatch.setattr(module, "BUDGET", budget)
        with suppress(ExportError):
            quantise_within_budget(model, calibration, int8_source.classes, lambda *step: heard.append(step))
        return list(dict.fromkeys(what for what, _, _ in heard))

    short = ["measuring ranges", "rounding products", "judging all in int8"]
    assert run(1.0) == short
    assert run(-1.0) == [*short, "ranking products", "trying how many stay float"]
    count = len(products(model))
    for what, total in {"rounding products": count, "ranking products": count}.items():
        assert [step for step in heard if step[0] == what] == [
            (what, done, total) for done in range(count + 1)
        ]
    tries = [(done, total) for what, done, total in heard if what == "trying how many stay float"]
    # Halving 1 .. count - 1: at most as many tries as that has binary digits.
    assert tries == [(done, math.floor(math.log2(count - 1)) + 1) for done in range(len(tries))]
    assert 0 < len(tries) <= tries[0][1]
