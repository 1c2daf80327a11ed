"""Engines built, found, run and compared on a real GPU, in both flavours and every precision."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.errors import MissingExtraError
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.parity.walk import EncoderCandidate, check_golden
from rmatk_runtime.selection import open_backend
from rmatk_runtime.tensorrt.backend import TensorRtBackend
from rmatk_runtime.tensorrt.build import build_engine
from rmatk_runtime.tensorrt.key import BatchProfile, Flavour
from rmatk_runtime.tensorrt.library import FLAVOURS, load_tensorrt
from rmatk_runtime.tensorrt.machine import this_machine
from rmatk_runtime.tensorrt.options import BuildOptions
from rmatk_runtime.tensorrt.store import BuiltEngine, delete_engine, find_engine, kernels_path

pytestmark = pytest.mark.gpu  # not tensorrt: those run without a GPU

CASES = [(flavour, precision) for flavour in FLAVOURS for precision in ("fp32", "fp16", "int8")]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def engine(request: pytest.FixtureRequest, gpu: Gpu, bundle: Bundle) -> BuiltEngine:
    flavour: Flavour
    precision: Precision
    flavour, precision = request.param
    try:
        trt = load_tensorrt(flavour)
    except MissingExtraError as error:
        pytest.skip(error.message)
    options = BuildOptions(batch=BatchProfile(2, 4, 8))
    built = build_engine(bundle, bundle.graph(precision), trt, options, gpu=gpu)
    request.addfinalizer(lambda: delete_engine(built))
    return built


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 32, 32)).astype(np.float32)


def test_gives_what_pytorch_gave(bundle: Bundle, engine: BuiltEngine):
    assert find_engine(bundle, this_machine(), precision=engine.key.precision) == engine
    with open_backend(bundle, precision=engine.key.precision) as backend:
        assert isinstance(backend, TensorRtBackend)
        stages = check_golden(bundle, [EncoderCandidate(backend.name, engine.key.precision, backend)])
    assert all(stages), [stage.reason for stage in stages if not stage]


def test_filled_up_captured_and_split_batches_are_the_same_rows(bundle: Bundle, engine: BuiltEngine):
    """1 is filled up to 2; the third call of a size replays its graph; 21 alternate between two lanes."""
    batch = images(21)
    with TensorRtBackend.open(engine) as backend:
        whole = backend.embed(batch)
        for count in (1, 2, 5, 8):
            calls = [backend.embed(batch[:count]) for _ in range(4)]
            for call in calls[1:]:
                np.testing.assert_array_equal(call, calls[0])
            # Kernels of another batch size may sum in another order.
            cosine = (calls[0] * whole[:count]).sum(axis=1)
            assert cosine.min() > bundle.manifest.tolerances[engine.key.precision].min_cosine
        np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-3)
        assert backend.times.compute > 0 and backend.times.upload > 0


def test_runs_in_another_thread_than_it_was_loaded_in(engine: BuiltEngine):
    """As ``rmatk infer`` does it: each thread has its own current device."""
    batch = images(8)
    with TensorRtBackend.open(engine) as backend, ThreadPoolExecutor(1) as pool:
        here = [backend.embed(batch) for _ in range(3)]
        there = [pool.submit(backend.embed, batch).result() for _ in range(3)]
    for rows in (*here, *there):
        np.testing.assert_array_equal(rows, here[0])


def test_a_second_start_gives_the_same_with_kernels_that_were_kept(
    engine: BuiltEngine, caplog: pytest.LogCaptureFixture
):
    batch = images(8)
    with TensorRtBackend.open(engine) as backend:
        first = backend.embed(batch)
    assert kernels_path(engine.path).exists() == (engine.key.flavour == "tensorrt_rtx")
    with caplog.at_level(logging.INFO), TensorRtBackend.open(engine) as backend:
        np.testing.assert_array_equal(backend.embed(batch), first)
    assert "kernels are made" not in caplog.text  # neither anew nor at every start
