"""Engines in a bundle: whole, of this bundle's graph, for this machine, or refused with every reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Graph
from rmatk_runtime.errors import BackendError
from rmatk_runtime.parity.stage import StageResult
from rmatk_runtime.tensorrt.key import BatchProfile, Machine
from rmatk_runtime.tensorrt.store import (
    BuiltEngine,
    delete_engine,
    find_engine,
    survey,
    write_engine,
    write_sidecar,
)
from tests.runtime.fakes.engine_keys import key_of as key

HERE = Machine("aarch64", "Orin", "8.7", {"tensorrt": "10.3.0"})


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))


def write(bundle: Bundle, plan: bytes = b"plan", **changes: object) -> BuiltEngine:
    return write_engine(
        bundle, plan, key=key(bundle, **changes), built="2026-01-01T00:00:00+00:00", seconds=1.5, layers=9
    )


def test_an_engine_is_a_plain_plan_with_its_key_beside_it(bundle: Bundle):
    engine = write(bundle, b"the plan")
    assert engine.path.parent == bundle.path / "engines" and engine.path.read_bytes() == b"the plan"
    assert sorted(path.suffix for path in engine.path.parent.iterdir()) == [".engine", ".json"]
    sidecar = json.loads(engine.path.with_suffix(".json").read_bytes())
    assert sidecar["key"]["gpu"] == "Orin" and sidecar["size"] == 8 and sidecar["parity"] is None
    assert find_engine(bundle, HERE) == engine and find_engine(bundle, HERE).read() == b"the plan"
    assert Bundle.open(bundle.path).manifest == bundle.manifest  # the bundle stays whole


def test_a_plan_larger_than_memory_is_a_named_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    engine = write(bundle)

    def read(path: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(BackendError, match="does not fit into this machine's memory") as caught:
        engine.read()
    assert "swap" in str(caught.value.hint)


def test_parity_is_kept_in_the_sidecar(bundle: Bundle):
    engine = write(bundle)
    stage = StageResult(stage="engine", images=8, passed=True, reason=None, tolerance=None)
    write_sidecar(BuiltEngine(engine.path, msgspec.structs.replace(engine.sidecar, parity=(stage,))))
    assert find_engine(bundle, HERE).sidecar.parity == (stage,)


def test_the_nearest_batch_of_the_right_precision_is_chosen(bundle: Bundle):
    one, eight = write(bundle), write(bundle, batch=BatchProfile(1, 8, 16))
    write(bundle, batch=BatchProfile(1, 9, 16), precision="fp16")
    assert find_engine(bundle, HERE, batch=1) == one
    assert find_engine(bundle, HERE, batch=6) == find_engine(bundle, HERE, batch=16) == eight
    assert find_engine(bundle, HERE, batch=100) == eight  # runs in parts


def test_no_engine_at_all_names_the_command(bundle: Bundle):
    with pytest.raises(BackendError, match="holds no fp32 engine that runs here") as caught:
        find_engine(bundle, HERE)
    assert caught.value.hint == f"rmatk export {bundle.path} --trt --precision fp32"


def test_an_engine_of_another_precision_is_named_in_the_hint(bundle: Bundle):
    graphs = (*bundle.manifest.graphs, Graph(precision="fp16", file="image_encoder.onnx", opset=18))
    both = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, graphs=graphs))
    write(both, precision="fp16")
    with pytest.raises(BackendError, match="holds no fp32 engine") as caught:
        find_engine(both, HERE)
    assert str(caught.value.hint).endswith("use the one that does: --precision fp16")


def truncate(engine: BuiltEngine) -> None:
    engine.path.write_bytes(b"pla")


def alter(engine: BuiltEngine) -> None:
    engine.path.write_bytes(b"plaN")


def lose_sidecar(engine: BuiltEngine) -> None:
    engine.path.with_suffix(".json").unlink()


def break_sidecar(engine: BuiltEngine) -> None:
    engine.path.with_suffix(".json").write_text('{"key": 1')


def add_a_field(engine: BuiltEngine) -> None:
    file = engine.path.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "trust": "me"}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "the plan has 3 bytes, its sidecar says 4"),
        (alter, "the plan was altered"),
        (lose_sidecar, "its sidecar .* is missing"),
        (break_sidecar, "its sidecar .* cannot be read"),
        (add_a_field, "its sidecar .* cannot be read: .*trust"),
    ],
)
def test_damage_is_named_and_the_engine_not_used(bundle: Bundle, damage, reason: str):
    damage(write(bundle))
    (found,) = survey(bundle, HERE)
    assert not found.usable
    with pytest.raises(BackendError, match=reason):
        find_engine(bundle, HERE)


def test_a_plan_swapped_after_the_search_is_not_read(bundle: Bundle):
    write(bundle)
    engine = find_engine(bundle, HERE)
    alter(engine)
    with pytest.raises(BackendError, match="was altered"):
        engine.read()
    engine.path.unlink()
    with pytest.raises(BackendError, match="cannot be read"):
        engine.read()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"onnx_sha256": "f" * 64}, r"built from another image_encoder.onnx \(SHA-256 ffffffffffff, now "),
        ({"tensorrt": "8.6.2"}, "built with TensorRT 8.6.2; this machine has 10.3.0"),
        ({"gpu": "Xavier"}, "built on Xavier; this machine has Orin"),
    ],
)
def test_stale_and_foreign_engines_are_refused(bundle: Bundle, changes: dict[str, object], reason: str):
    write(bundle, **changes)
    with pytest.raises(BackendError, match=reason):
        find_engine(bundle, HERE)
    good = write(bundle)
    assert find_engine(bundle, HERE) == good  # a refused one beside it does no harm


def test_an_engine_of_a_graph_that_the_bundle_lost(bundle: Bundle):
    write(bundle, precision="int8")
    (found,) = survey(bundle, HERE)
    assert found.reasons == ("the bundle holds no int8 graph on images any more",)


def test_deleting_leaves_nothing(bundle: Bundle):
    delete_engine(write(bundle))
    assert list((bundle.path / "engines").iterdir()) == []
