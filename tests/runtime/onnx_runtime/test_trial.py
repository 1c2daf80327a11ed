"""A graph is tried in another process once: its death, its hunger and its slowness are that one's alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BundleError
from rmatk_runtime.onnx_runtime import trial


def dies(bundle: Bundle, file: str) -> Float32:
    os.abort()


def eats(bundle: Bundle, file: str) -> Float32:
    return np.ones(1 << 30, np.float32)


def sleeps(bundle: Bundle, file: str) -> Float32:
    time.sleep(60)
    return np.zeros(1, np.float32)


def spins(bundle: Bundle, file: str) -> Float32:
    while True:
        pass


def gives_nan(bundle: Bundle, file: str) -> Float32:
    return np.full(1, np.nan, np.float32)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    for job in (dies, eats, sleeps, spins, gives_nan):
        monkeypatch.setattr(job, "__module__", "tests.runtime.onnx_runtime.test_trial")


def test_a_sound_graph_is_tried_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    trial.ensure_runs(bundle, "image_encoder.onnx")
    monkeypatch.setattr(trial, "_try", lambda *_: pytest.fail("tried again"))
    trial.ensure_runs(bundle, "image_encoder.onnx")


def test_without_a_cache_it_is_tried_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    tried: list[str] = []
    monkeypatch.setattr(trial, "_try", lambda bundle, file, job: tried.append(file))
    trial.ensure_runs(bundle, "image_encoder.onnx")
    trial.ensure_runs(bundle, "image_encoder.onnx")
    assert len(tried) == 2


@pytest.mark.parametrize(
    ("job", "reason"),
    [(dies, "was ended by SIGABRT"), (eats, "takes more than"), (gives_nan, "not finite")],
)
def test_what_would_harm_this_process_is_a_named_error(bundle: Bundle, job, reason: str):
    for _ in range(2):  # a failure is not kept: the next start may have more memory
        with pytest.raises(BundleError, match=f"image_encoder.onnx cannot be used: .*{reason}"):
            trial.ensure_runs(bundle, "image_encoder.onnx", job)


def test_one_that_does_not_end_is_ended(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "_SECONDS", 2)
    with pytest.raises(BundleError, match="took more than 2 seconds of processor time"):
        trial.ensure_runs(bundle, "image_encoder.onnx", spins)
    monkeypatch.setattr(trial, "_PATIENCE", 1)
    with pytest.raises(BundleError, match="did not end within 2 seconds"):
        trial.ensure_runs(bundle, "image_encoder.onnx", sleeps)
