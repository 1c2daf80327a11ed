"""Kernels of TensorRT for RTX: kept beside the engine, given back to the same plan on the same GPU alone."""

from __future__ import annotations

import logging
import shutil
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.tensorrt import backend as tensorrt
from rmatk_runtime.tensorrt import kernels as tensorrt_kernels
from rmatk_runtime.tensorrt.backend import TensorRtBackend
from rmatk_runtime.tensorrt.kernels import KernelKey, Kernels, kernels_of
from rmatk_runtime.tensorrt.key import BatchProfile, EngineKey
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.store import BuiltEngine, delete_engine, write_engine
from tests.runtime.fakes.cuda_runtime import FakeCudaRuntime, Status
from tests.runtime.fakes.tensorrt_runtime import fake_plan, fake_tensorrt
from tests.runtime.tensorrt.test_backend import check, images, write_graph

VERSION = "1.7.1"
KEY = KernelKey(plan="a" * 64, tensorrt=VERSION, gpu="NVIDIA L4", compute_capability="8.9", driver="13.0")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "image_encoder.onnx")


@pytest.fixture
def cuda() -> FakeCudaRuntime:
    return FakeCudaRuntime()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "images-fp32.kernels"


def start(cuda: FakeCudaRuntime, graph: Path, file: Path, key: KernelKey = KEY) -> TensorRtBackend:
    trt = TensorRt(fake_tensorrt(cuda, VERSION), "tensorrt_rtx", VERSION)
    plan = fake_plan(graph, version=VERSION)
    return TensorRtBackend(trt, plan, "test.engine", Cuda(cuda), kernels=Kernels(file, key))


def made_anew(graph: Path, file: Path, key: KernelKey = KEY, *, counts: tuple[int, ...] = (2,)) -> list[int]:
    """The batch sizes that a start, given these batches, had to make kernels for; results are right."""
    cuda = FakeCudaRuntime()
    with start(cuda, graph, file, key) as backend:
        for seed, count in enumerate(counts):
            check(backend, graph, count, seed)
    assert not cuda.live
    return [arguments[0] for name, arguments in cuda.calls if name == "make kernels"]


def test_a_second_start_makes_none(graph: Path, file: Path):
    assert made_anew(graph, file, counts=(2, 2, 8)) == [2, 8]
    assert made_anew(graph, file, counts=(8, 2)) == []
    assert made_anew(graph, file, counts=(2, 3)) == [3]
    assert made_anew(graph, file, counts=(2, 3, 8)) == []


def test_they_are_written_when_the_first_batch_of_a_size_has_run_not_at_every_batch(
    cuda: FakeCudaRuntime, graph: Path, file: Path
):
    """A service that is killed has kept them; a running one does not write."""
    with start(cuda, graph, file) as backend:
        assert not file.exists()
        backend.embed(images(2))
        first = file.stat()
        assert [path.name for path in file.parent.iterdir()] == [file.name]
        for _ in range(3):
            backend.embed(images(2))
        assert file.stat() == first and cuda.names().count("serialize") == 1
        backend.embed(images(8))
        assert cuda.names().count("serialize") == 2 and file.stat().st_mtime_ns > first.st_mtime_ns


def test_a_start_that_made_nothing_new_writes_nothing(graph: Path, file: Path):
    made_anew(graph, file)
    before = file.stat()
    assert made_anew(graph, file) == []
    assert file.stat() == before


@pytest.mark.parametrize("part", KernelKey.__struct_fields__)
def test_those_of_another_plan_gpu_driver_or_version_are_not_given_to_tensorrt(
    graph: Path, file: Path, part: str, caplog: pytest.LogCaptureFixture
):
    made_anew(graph, file)
    other, cuda = msgspec.structs.replace(KEY, **{part: "something else"}), FakeCudaRuntime()
    with caplog.at_level(logging.WARNING), start(cuda, graph, file, other) as backend:
        check(backend, graph, 2)
    assert "deserialize" not in cuda.names() and ("make kernels", (2,)) in cuda.calls
    assert f"{part} {getattr(KEY, part)[:40]}, here something else" in caplog.text
    assert made_anew(graph, file, other) == []  # and were replaced


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole + b"x",
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: whole.partition(b"\n")[2],
        lambda whole: whole[:20],
        lambda whole: b"",
    ],
    ids=["cut", "longer", "flipped", "no header", "half a header", "empty"],
)
def test_damaged_ones_are_told_and_made_anew(
    graph: Path, file: Path, damage, caplog: pytest.LogCaptureFixture
):
    made_anew(graph, file)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING):
        assert made_anew(graph, file) == [2]
    assert caplog.text.count("kernels are compiled again") == 1 and str(file) in caplog.text
    assert file.read_bytes() == whole


def test_what_tensorrt_does_not_accept_is_told_and_made_anew(
    graph: Path, file: Path, caplog: pytest.LogCaptureFixture
):
    made_anew(graph, file)
    trial = FakeCudaRuntime()
    with start(trial, graph, file):
        place = trial.names().index("deserialize")
    cuda = FakeCudaRuntime()
    cuda.fail[place] = Status.cudaErrorInvalidValue
    with caplog.at_level(logging.WARNING), start(cuda, graph, file) as backend:
        check(backend, graph, 2)
    assert ("make kernels", (2,)) in cuda.calls
    assert "TensorRT does not accept" in caplog.text and not cuda.live


def test_neither_reading_nor_writing_goes_beyond_the_limit(
    graph: Path, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    made_anew(graph, file)
    monkeypatch.setattr(tensorrt_kernels, "LARGEST", 10)
    with caplog.at_level(logging.WARNING):
        assert made_anew(graph, file) == [2]
        file.unlink()
        made_anew(graph, file)
    assert not file.exists() and "are not kept" in caplog.text


def test_of_a_file_that_is_far_too_large_no_more_is_read_than_the_limit(
    graph: Path, file: Path, monkeypatch: pytest.MonkeyPatch
):
    made_anew(graph, file)
    with file.open("ab") as end:
        end.truncate(1 << 28)  # sparse
    monkeypatch.setattr(tensorrt_kernels, "LARGEST", 1 << 10)
    tracemalloc.start()
    try:
        assert made_anew(graph, file) == [2]
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_a_disk_that_refuses_is_told_once_and_stops_nothing(
    cuda: FakeCudaRuntime, graph: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "occupied").write_text("a file, not a folder")
    with (
        caplog.at_level(logging.WARNING),
        start(cuda, graph, tmp_path / "occupied" / "x.kernels") as backend,
    ):
        for count in (1, 2, 8):
            check(backend, graph, count)
    assert caplog.text.count("kernels are made at every start") == 1 and not cuda.live


def test_the_cache_goes_behind_what_uses_it(cuda: FakeCudaRuntime, graph: Path, file: Path):
    backend = start(cuda, graph, file)
    backend.embed(images(2))
    before = len(cuda.calls)
    backend.close()
    released = [name for name, _ in cuda.calls[before:] if name.startswith("release")]
    assert released == [f"release {what}" for what in ("context", "config", "cache", "engine", "runtime")]


def test_whatever_call_fails_everything_is_given_back_once(graph: Path, file: Path):
    """Each call of a life with kept kernels fails in turn; the cache alone never ends it."""

    def use(cuda: FakeCudaRuntime) -> None:
        with start(cuda, graph, file) as backend:
            for count in (2, 20):
                backend.embed(images(count))

    made_anew(graph, file)
    kept, trial = file.read_bytes(), FakeCudaRuntime()
    use(trial)
    names = [(number, name) for number, name in enumerate(trial.names()) if "release" not in name]
    for number, name in names:
        file.write_bytes(kept)
        cuda = FakeCudaRuntime()
        cuda.fail[number] = Status.cudaErrorMemoryAllocation
        try:
            use(cuda)
        except BackendError:
            assert name not in ("create_runtime_cache", "set_runtime_cache", "deserialize", "serialize")
        assert not cuda.live, f"{name}, call {number}"


def rtx_engine(bundle: Bundle, **changes: object) -> BuiltEngine:
    key = EngineKey(
        flavour="tensorrt_rtx",
        tensorrt=VERSION,
        machine="x86_64",
        gpu=None,
        compute_capabilities=(),
        precision="fp32",
        input="images",
        batch=BatchProfile(1, 4, 8),
        onnx_sha256=bundle.manifest.files["image_encoder.onnx"].sha256,
        hardware_compatibility="ampere_plus",
    )
    plan = fake_plan(bundle.path / "image_encoder.onnx", version=VERSION)
    key = msgspec.structs.replace(key, **changes)
    return write_engine(bundle, plan, key=key, built="2026-01-01T00:00:00+00:00", seconds=1, layers=1)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> FakeCudaRuntime:
    """A desktop with TensorRT for RTX and a GPU that computes on the CPU."""
    cuda = FakeCudaRuntime()
    module = fake_tensorrt(cuda, VERSION)
    monkeypatch.setattr(tensorrt, "load_tensorrt", lambda flavour: TensorRt(module, flavour, VERSION))
    monkeypatch.setattr(tensorrt_kernels, "first_gpu", lambda: Gpu("NVIDIA L4", "8.9", 1 << 34, False))
    monkeypatch.setattr(tensorrt_kernels, "driver_version", lambda: "13.0")
    monkeypatch.setattr(Cuda, "load", lambda: Cuda(cuda))
    return cuda


def test_an_engine_of_a_bundle_keeps_them_beside_it_until_it_is_replaced_or_deleted(
    bundle: Bundle, desktop: FakeCudaRuntime
):
    engine = rtx_engine(bundle)
    batch = images(2).repeat(8, axis=2).repeat(8, axis=3)
    for _ in range(2):
        with TensorRtBackend.open(engine) as backend:
            backend.embed(batch)
    assert desktop.names().count("make kernels") == 1 and not desktop.live
    suffixes = (".engine", ".json", ".kernels")
    folder = engine.path.parent
    assert sorted(folder.iterdir()) == [engine.path.with_suffix(suffix) for suffix in suffixes]
    Bundle.open(bundle.path)  # such a bundle is still a whole one
    again = rtx_engine(bundle)
    assert sorted(folder.iterdir()) == [again.path, again.path.with_suffix(".json")]
    with TensorRtBackend.open(again) as backend:
        backend.embed(batch)
    delete_engine(again)
    assert not list(folder.iterdir())


def test_only_engines_of_rtx_on_a_gpu_keep_any(
    bundle: Bundle, desktop: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch
):
    assert kernels_of(rtx_engine(bundle)) is not None
    assert kernels_of(rtx_engine(bundle, flavour="tensorrt")) is None
    monkeypatch.setattr(tensorrt_kernels, "first_gpu", lambda: None)
    assert kernels_of(rtx_engine(bundle)) is None
