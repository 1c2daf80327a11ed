"""What int8 costs in labels, told from few shots, and which products stay float for it."""

from __future__ import annotations

import dataclasses
import math
from contextlib import suppress

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rmatk.deployment.from_run import export_source
from rmatk_export.fold import fold
from rmatk_export.int8 import search as module
from rmatk_export.int8.ranges import products
from rmatk_export.int8.search import CalibrationPhotos, Quantisation, quantise_within_budget
from rmatk_runtime.errors import ExportError


def test_the_worst_loss_is_bounded_by_changes_and_by_what_many_shots_lost() -> None:
    few = Quantisation(
        float_products=(),
        int8_share=1.0,
        images=24,
        held_out=True,
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


def test_products_are_ranked_by_error_for_what_they_multiply(int8_source, model, monkeypatch):
    """17 tokens; the last block reads the class token alone, but for its keys and values."""
    judge = module._Judge(model, int8_source.calibration, int8_source.classes)
    block = fold(int8_source.image).blocks[2]
    for part, tokens in {"wide_in": 17, "attention_out": 1, "mlp_in": 1, "wide_out": 1}.items():
        assert judge._work[f"blocks.2.{part}.matmul"] == tokens * getattr(block, part).weight.size
    assert judge._work["blocks.0.mlp_in.matmul"] == 17 * fold(int8_source.image).blocks[0].mlp_in.weight.size
    wrong = np.roll(judge._embeddings, 1, axis=1)
    monkeypatch.setattr(module, "_embed", lambda graph, images: wrong[:: -(-len(wrong) // len(images))])
    monkeypatch.setattr(module, "quantise", lambda model, int8: model)  # all err alike
    order = judge.worst_first(dict.fromkeys(judge._work), lambda *step: None)
    assert [judge._work[name] for name in order] == sorted(judge._work.values())


def test_what_the_shots_lose_counts_whatever_is_foretold(int8_source, model, monkeypatch):
    """Every choice is foretold to keep the budget, but the first three lose a shot of 24."""
    calibration: CalibrationPhotos = int8_source.calibration
    sound, tried = module._Judge.quantised, []

    def loses_until_three_are_float(judge, int8):
        graph, chosen = sound(judge, int8)
        tried.append(len(chosen.float_products))
        lost = 1 / 24 if len(chosen.float_products) < 3 else 0.0
        return graph, msgspec.structs.replace(
            chosen, accuracy_fp32=0.5, accuracy_int8=0.5 - lost, expected_changes=0.004
        )

    monkeypatch.setattr(module._Judge, "quantised", loses_until_three_are_float)
    _, chosen = quantise_within_budget(model, calibration, int8_source.classes)
    assert chosen.lost == 0.0 and len(chosen.float_products) == 3
    assert 0 in tried and 2 in tried


def test_calibration_takes_training_photos_and_is_judged_on_validation_ones(int8_source, tiny_run):
    calibration: CalibrationPhotos = int8_source.calibration
    assert len(calibration.images) == len(tiny_run.record.train_files)
    assert len(calibration.shots) == len(calibration.labels) == len(tiny_run.record.validation_files)
    assert calibration.held_out


def test_training_photos_that_judge_are_said_to(tiny_run, tiny, rmatk, monkeypatch, tmp_path):
    record = msgspec.structs.replace(tiny_run.record, validation_files=(), validation_labels=())
    run = dataclasses.replace(tiny_run, record=record)
    calibration = export_source(run, tiny, golden=8, precisions=("int8",)).calibration
    assert not calibration.held_out and len(calibration.shots) == len(record.train_files)
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda *names: tiny)
    for loaded, said in ((tiny_run, False), (run, True)):
        monkeypatch.setattr("rmatk.run.load_run", lambda path, loaded=loaded: loaded)
        code, out, err = rmatk("export", run.path, "-o", tmp_path / "bundle", "--precision", "int8")
        assert code == 0, err
        assert ("the estimate uses training images" in out) == said


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
