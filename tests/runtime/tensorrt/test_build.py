"""Building against every version's own members: what is called, what is refused, what failures say."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError, ConfigError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.tensorrt.build import build_engine
from rmatk_runtime.tensorrt.key import BatchProfile
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.options import BuildOptions, check_options
from rmatk_runtime.tensorrt.store import BuiltEngine
from tests.runtime.fakes.tensorrt_builder import PLAN, RTX, VERSIONS, FakeTensorRt

ORIN = Gpu("Orin", "8.7", 8 << 30, integrated=True)
FREE = 6 << 30


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))


@pytest.fixture(autouse=True)
def gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        def call(self, name: str) -> tuple[int, int]:
            assert name == "cudaMemGetInfo"
            return FREE, 8 << 30

    monkeypatch.setattr(Cuda, "load", Memory)


def load(version: str) -> tuple[TensorRt, FakeTensorRt]:
    fake = FakeTensorRt(version)
    return TensorRt(fake, "tensorrt_rtx" if version == RTX else "tensorrt", fake.__version__), fake


def build(bundle: Bundle, trt: TensorRt, *, gpu: Gpu | None = ORIN, **options: Any) -> BuiltEngine:
    return build_engine(bundle, bundle.graph("fp32"), trt, BuildOptions(**options), gpu=gpu)


def left(bundle: Bundle) -> list[str]:
    return sorted(path.name for path in (bundle.path / "engines").glob("*"))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_asked_for_what_it_has(bundle: Bundle, version: str):
    trt, fake = load(version)
    engine = build(bundle, trt, batch=BatchProfile(1, 4, 8))
    typed = fake.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert fake.named("create_network") == [(1 << typed.value,)]
    assert fake.named("parse_from_file") == [(str(bundle.path / "image_encoder.onnx"),)]
    assert fake.named("set_shape") == [("images", (1, 3, 32, 32), (4, 3, 32, 32), (8, 3, 32, 32))]
    assert fake.named("clear_flag") == [(fake.BuilderFlag.TF32,)] and not fake.named("set_flag")
    assert fake.named("set_memory_pool_limit") == [(fake.MemoryPoolType.WORKSPACE, FREE // 2)]
    assert not fake.named("hardware_compatibility_level")
    assert engine.read() == PLAN and engine.sidecar.layers == 284
    key = engine.key
    assert (key.tensorrt, key.gpu, key.compute_capabilities) == (version, "Orin", ("8.7",))
    assert key.onnx_sha256 == bundle.manifest.files["image_encoder.onnx"].sha256


def test_the_fake_has_no_member_that_a_version_lost():
    fake = FakeTensorRt("11.4.0")
    logger = type("Logger", (fake.ILogger,), {})()
    builder, config = fake.Builder(logger), fake.Builder(logger).create_builder_config()
    for gone in ("platform_has_fast_fp16", "build_engine"):
        with pytest.raises(AttributeError):
            getattr(builder, gone)
    with pytest.raises(AttributeError):
        config.int8_calibrator = None
    assert not hasattr(fake.BuilderFlag, "FP16") and not hasattr(fake, "ComputeCapability")
    assert hasattr(FakeTensorRt("10.3.0").BuilderFlag, "FP16")


@pytest.mark.parametrize("version", VERSIONS)
def test_flags_by_name(bundle: Bundle, version: str):
    trt, fake = load(version)
    engine = build(bundle, trt, refit=True, version_compat=True, hardware_compat="ampere_plus", workspace=512)
    flags = fake.BuilderFlag
    assert fake.named("set_flag") == [(flags.REFIT,), (flags.VERSION_COMPATIBLE,)]
    assert fake.named("hardware_compatibility_level") == [(fake.HardwareCompatibilityLevel.AMPERE_PLUS,)]
    assert fake.named("set_memory_pool_limit") == [(fake.MemoryPoolType.WORKSPACE, 512 << 20)]
    assert engine.key.refittable and engine.key.version_compatible
    assert engine.key.hardware_compatibility == "ampere_plus"


@pytest.mark.parametrize(
    ("version", "options", "refusal"),
    [
        ("10.3.0", {"hardware_compat": "same_compute_capability"}, "TensorRT 10.3.0 does not know it"),
        ("11.4.0", {"compute_capabilities": ("8.9",)}, "compute_capabilities is for TensorRT for RTX"),
        (RTX, {"compute_capabilities": ("9.0",)}, "cannot build for it"),
        (RTX, {"hardware_compat": "ampere_plus"}, "hardware_compat is for TensorRT;"),
        (RTX, {"version_compat": True}, "version_compat"),
        (RTX, {"timing_cache": Path("cache")}, "timing_cache"),
        (RTX, {"refit": True}, "refit"),
    ],
)
def test_what_a_version_cannot_do_is_refused_by_the_field(bundle, version, options, refusal):
    trt, fake = load(version)
    gpu = None if version == RTX else ORIN
    with pytest.raises(ConfigError, match=refusal) as caught:
        check_options(trt, BuildOptions(**options), gpu)
    assert len(caught.value.problems) == 1
    with pytest.raises(ConfigError, match=refusal):
        build(bundle, trt, gpu=gpu, **options)
    assert not fake.calls and not left(bundle)


def test_same_compute_capability_is_known_where_it_came():
    options = BuildOptions(hardware_compat="same_compute_capability")
    check_options(load("10.13.3")[0], options, ORIN)


def test_tensorrt_8_is_refused_by_name(bundle: Bundle):
    trt, fake = load("8.6.1")
    with pytest.raises(BackendError, match="TensorRT 8.6.1 has no strongly typed networks") as caught:
        build(bundle, trt)
    assert "JetPack 6.1" in str(caught.value.hint) and not fake.calls


def test_tensorrt_needs_the_gpu_and_rtx_does_not(bundle: Bundle):
    trt, fake = load("10.13.3")
    with pytest.raises(BackendError, match="builds on the GPU that will run the engine"):
        build(bundle, trt, gpu=None)
    assert not fake.calls
    trt, fake = load(RTX)
    key = build(bundle, trt, gpu=None).key
    assert (key.gpu, key.compute_capabilities, key.hardware_compatibility) == (None, (), "ampere_plus")
    assert not fake.named("set_memory_pool_limit") and not fake.named("num_compute_capabilities")
    key = build(bundle, trt, gpu=None, compute_capabilities=("8.6", "8.9")).key
    assert (key.compute_capabilities, key.hardware_compatibility) == (("8.6", "8.9"), "none")
    targets = fake.ComputeCapability
    assert fake.named("set_compute_capability") == [(targets.SM86, 0), (targets.SM89, 1)]
    assert fake.named("num_compute_capabilities") == [(2,)]


@pytest.mark.parametrize(
    ("capability", "targets"), [("7.5", ("7.5",)), ("8.6", ()), ("12.0", ()), ("9.0", ())]
)
def test_rtx_builds_for_turing_only_where_it_is(bundle: Bundle, capability: str, targets: tuple[str, ...]):
    gpu = Gpu("desktop", capability, 8 << 30, integrated=False)
    key = build(bundle, load(RTX)[0], gpu=gpu).key
    assert key.compute_capabilities == targets and key.gpu is None
    told = build(bundle, load(RTX)[0], gpu=gpu, compute_capabilities=("8.9",)).key
    assert told.compute_capabilities == ("8.9",)


def test_a_library_that_does_not_start(bundle: Bundle):
    trt, fake = load("10.13.3")
    fake.starts = False
    with pytest.raises(BackendError, match="does not start: CUDA initialization failure with error: 35"):
        build(bundle, trt)


def test_a_refused_node_is_named(bundle: Bundle):
    trt, fake = load("10.3.0")
    fake.parser_errors = [
        {"node": 7, "desc": "No importer", "node_name": "blocks.0.attn", "node_operator": "Attention"}
    ]
    with pytest.raises(BackendError, match=r"node 'blocks.0.attn' \(Attention\): No importer"):
        build(bundle, trt)
    assert not fake.named("build_serialized_network") and not left(bundle)


def test_an_error_that_is_no_node_s(bundle: Bundle):
    trt, fake = load("10.3.0")
    fake.parser_errors = [{"node": -1, "desc": "not a model", "node_name": "", "node_operator": ""}]
    with pytest.raises(BackendError, match="image_encoder.onnx: not a model"):
        build(bundle, trt)


@pytest.mark.parametrize(
    "words",
    [
        "Could not find any implementation for node {ForeignNode[...]}",
        "Error Code 2: OutOfMemory (Requested size was 4294967296 bytes.)",
        "virtualMemoryBuffer.cpp: CUDA out of memory",
        "Compiling this graph requires workspace memory greater than 0.",
    ],
)
def test_memory_errors_are_translated(bundle: Bundle, words: str):
    trt, fake = load("10.3.0")
    fake.build_error = words
    with pytest.raises(BackendError, match="probably because of too little memory: ") as caught:
        build(bundle, trt)
    assert words in caught.value.message
    assert caught.value.hint == "close other programs or add swap, then retry with --workspace 512"
    with pytest.raises(BackendError) as caught:
        build(bundle, trt, workspace=512)
    assert "larger --workspace" in str(caught.value.hint) and not left(bundle)


def test_other_errors_stay_as_they_are(bundle: Bundle):
    trt, fake = load("11.4.0")
    fake.build_error = "Error Code 10: Internal Error"
    with pytest.raises(BackendError, match="cannot build image_encoder.onnx: Error Code 10"):
        build(bundle, trt)


def test_turing_is_told_to_build_an_fp16_graph(bundle: Bundle):
    trt, fake = load(RTX)
    fake.build_error = "Error Code 10: Internal Error"
    with pytest.raises(BackendError, match=r"for Turing \(7.5\), where it needs an fp16 graph") as caught:
        build(bundle, trt, compute_capabilities=("7.5",))
    assert "--precision fp16" in str(caught.value.hint)
    with pytest.raises(BackendError, match="cannot build image_encoder.onnx: Error Code 10"):
        build(bundle, trt, compute_capabilities=("8.9",))


def test_the_timing_cache_is_read_and_written(bundle: Bundle, tmp_path: Path):
    trt, fake = load("10.13.3")
    path = tmp_path / "timing.cache"
    build(bundle, trt, timing_cache=path)
    assert path.read_bytes() == b"+measured"
    build(bundle, trt, timing_cache=path)
    assert path.read_bytes() == b"+measured+measured"
    assert fake.named("create_timing_cache") == [(b"",), (b"+measured",)]
    fake.cache_fits = False
    with pytest.raises(BackendError, match="no timing cache of this TensorRT on this GPU"):
        build(bundle, trt, timing_cache=path)
    assert path.read_bytes() == b"+measured+measured"
    with pytest.raises(BackendError, match="cannot be read"):
        build(bundle, trt, timing_cache=tmp_path)


def test_the_share_done_never_falls_and_ends_at_one(bundle: Bundle):
    trt, _ = load("10.3.0")
    told: list[tuple[str, int, int]] = []
    graph = bundle.graph("fp32")
    build_engine(bundle, graph, trt, BuildOptions(), gpu=ORIN, on_progress=lambda *now: told.append(now))
    assert [done for _, done, _ in told] == [0, 0, 16, 33, 50, 50, 50, 100, 100]
    assert {phase for phase, *_ in told} == {"Building", "Timing"} and {total for *_, total in told} == {100}


@pytest.fixture
def interruptible() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("moment", [1, 100_000], ids=["while starting", "while building"])
def test_ctrl_c_stops_the_builder_and_leaves_nothing(bundle: Bundle, moment: int):
    trt, fake = load("10.3.0")
    fake.phases = [("Building", None, 1_000_000)]
    shares: list[int] = []

    def interrupt(phase: str, done: int, total: int) -> None:
        shares.append(done)
        if len(shares) == moment:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(bundle, bundle.graph("fp32"), trt, BuildOptions(), gpu=ORIN, on_progress=interrupt)
    told = 0
    while told != len(shares):  # a builder that is not waited for stops as well
        told = len(shares)
        time.sleep(0.1)
    assert 1 <= told < 1_000_000
    assert not left(bundle)
