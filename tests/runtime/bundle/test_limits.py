"""Files of a bundle whose digests fit and whose content is hostile: a named error before they are used."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmatk_runtime.bundle import Bundle, read_manifest
from rmatk_runtime.bundle.graph_file import check_graph
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.bundle.npz import read_npz, texts
from rmatk_runtime.bundle.protobuf import Fields
from rmatk_runtime.bundle.tokenizer_file import load_tokenizer
from rmatk_runtime.errors import BackendError, BundleError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("decision.temperature", 0),
        ("decision.logit_scale", -1),
        ("decision.reject_threshold", 1.5),
        ("model.embed_dim", 10**9),
        ("preprocess.height", 10**6),
        ("preprocess.std", [1, 1, 0]),
        ("preprocess.fill_color", 256),
        ("text.context_length", 0),
        ("golden.images", 0),
        ("graphs", []),
        ("tolerances.fp32.min_agreement", 2),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_place(copy: Path, place: str, value: object):
    content = json.loads((copy / "manifest.json").read_text())
    *outer, last = place.split(".")
    inner = content
    for key in outer:
        inner = inner[key]
    inner[last] = value
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=rf"\$\.{outer[0] if outer else last}"):
        read_manifest(copy)


def test_a_nested_manifest_is_refused(copy: Path):
    (copy / "manifest.json").write_text('{"x":' * 5000 + "1" + "}" * 5000)
    with pytest.raises(BundleError):
        read_manifest(copy)


@pytest.mark.parametrize("name", ["classes.npz", "manifest.json"])
def test_a_link_out_of_the_bundle_is_refused(copy: Path, tmp_path: Path, name: str):
    (copy / name).rename(tmp_path / name)
    (copy / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match="is a link to .* outside the folder"):
        Bundle.open(copy)


def test_hard_links_and_a_link_to_the_bundle_are_fine(copy: Path, tmp_path: Path):
    (tmp_path / "same").hardlink_to(copy / "classes.npz")
    (tmp_path / "current").symlink_to(copy)
    assert Bundle.open(tmp_path / "current").classes().names


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class TestNpz:
    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            ({"a": b"no array"}, "is not an array"),
            ({"a": npy(np.zeros(3))}, "holds <f8, not <f4"),
            ({"b": npy(np.zeros(3, np.float32))}, "does not belong there"),
            ({"a": npy(np.zeros(3, np.float32))[:-1]}, "another size than its shape"),
            ({"a": npy(np.zeros(3, np.float32)).replace(b"(3,), }", b"(9,), }")}, "another size"),
            ({"a": npy(np.zeros(60 << 20, np.float32))}, "too large"),
        ],
    )
    def test_what_is_not_asked_for_is_refused(self, tmp_path: Path, members: dict[str, bytes], reason: str):
        (tmp_path / "x.npz").write_bytes(archive(**members))
        with pytest.raises(ValueError, match=reason):
            read_npz(tmp_path / "x.npz", {"a": "<f4"})

    @given(st.binary(max_size=400), st.integers(0, 2000))
    @settings(max_examples=200, deadline=None)
    def test_damage_is_a_value_error_or_harmless(
        self, tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
    ):
        whole = archive(a=npy(np.arange(40, dtype=np.float32)), n=npy(np.array(["x", "yz"])))
        path = tmp_path_factory.mktemp("npz") / "x.npz"
        path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
        try:
            arrays = read_npz(path, {"a": "<f4", "n": "<U"})
            texts(arrays["n"], 100)
        except (ValueError, KeyError):
            return
        assert np.array_equal(arrays["a"], np.arange(40))

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (np.array(["a\x1b[0m"]), "cannot be printed"),
            (np.array([["a"]]), "expected a list"),
            (np.array(["x" * 101]), "at most 100"),
            (np.array([0x110000], np.uint32).view("<U1"), "no character"),
        ],
    )
    def test_texts_are_checked(self, words: np.ndarray, reason: str):
        with pytest.raises(ValueError, match=reason):
            texts(words, 100)


Change = Callable[[onnx.ModelProto], None]


def _loop(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Loop"


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _short(model: onnx.ModelProto) -> None:
    weight = next(w for w in model.graph.initializer if len(w.raw_data) > 8)
    weight.raw_data = weight.raw_data[:-1]


def _outside(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")


def _huge(model: onnx.ModelProto) -> None:
    weight = next(w for w in model.graph.initializer if w.data_type == onnx.TensorProto.INT64)
    weight.raw_data = (2**40).to_bytes(8, "little") * (len(weight.raw_data) // 8)


def _function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f")


def _wider(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 25


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_loop, "operator 'Loop'"),
        (_cycle, "nothing before it makes"),
        (_short, "bytes, its sizes ask for"),
        (_outside, "outside the file of weights"),
        (_huge, "beyond all sizes"),
        (_function, "a field 25 that rmatk does not write"),
        (_wider, r"it gives embeddings \(None, 25\)"),
    ],
)
def test_a_graph_of_another_make_is_refused(tiny_bundle: Path, alter, change: Change, reason: str):
    changed = alter(tiny_bundle, "fp32", change)
    with pytest.raises(BundleError, match=f"image_encoder.onnx cannot be used: .*{reason}"):
        Bundle.open(changed)


def test_a_slice_to_the_end_is_no_size(tiny_bundle: Path, alter):
    def add(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2**31 - 1]), "const.end"))

    Bundle.open(alter(tiny_bundle, "fp32", add))


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_is_no_graph(tmp_path_factory: pytest.TempPathFactory, noise: bytes):
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    path.write_bytes(noise)
    with pytest.raises(ValueError):
        check_graph(path)


def test_protobuf_fields_are_read_and_others_refused():
    fields = Fields({1: 0, 2: 2}, many=(2,))
    assert fields.read(b"\x08\x96\x01\x12\x01a\x12\x01b", "it") == {1: [150], 2: [b"a", b"b"]}
    for wrong in (b"\x08\x01\x08\x02", b"\x18\x01", b"\x12\x05a", b"\x0a\x01a", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError):
            fields.read(wrong, "it")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"truncation": None}, "does not cut"),
        ({"padding": {"strategy": {"Fixed": 10**9}}}, "does not pad"),
        ({"model": {"type": "BPE", "vocab": {"a": 2**40}}}, "beyond all ids"),
        ({"model": {"type": "nothing"}}, "the tokenizers library fails"),
        ({"surprise": 1}, "it holds 'surprise'"),
    ],
)
def test_a_tokenizer_is_checked_before_its_library_sees_it(
    tiny_bundle: Path, tmp_path: Path, change: dict[str, object], reason: str
):
    content = json.loads((tiny_bundle / "tokenizer.json").read_text())
    assert load_tokenizer(tiny_bundle / "tokenizer.json", 16)
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(tmp_path / "tokenizer.json", 16)


@pytest.mark.parametrize("rows", [np.full((1, 4), np.nan), np.full((1, 4), np.inf), np.ones((1, 3))])
def test_answers_that_are_no_numbers_are_no_label(rows: np.ndarray):
    head = LabelHead(ClassMatrix(("a", "b"), np.eye(2, 4, dtype=np.float32)), Decision(logit_scale=10.0))
    with pytest.raises(BackendError, match="finite"):
        head.probabilities(rows.astype(np.float32))
