"""The reconstruction branch is in no graph: proven by content, and found when it is smuggled in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rmatk_export.bundle_writer import write_bundle
from rmatk_export.fold import fold
from rmatk_export.graph.encoder import image_graph, text_graph
from rmatk_export.proof import DROPPED, prove
from rmatk_runtime.errors import ExportError


@pytest.fixture
def graphs(tiny_source) -> dict[str, onnx.ModelProto]:
    image, text = fold(tiny_source.image), fold(tiny_source.text)
    return {"image_encoder.onnx": image_graph(image), "text_encoder.onnx": text_graph(text)}


def test_every_tensor_has_its_place(tiny_source, graphs):
    proof = prove(tiny_source.checkpoint, graphs, 1.0)
    places = {place.tensor: place.where for place in proof.placements}
    assert places.keys() == tiny_source.checkpoint.keys()
    for name, where in places.items():
        expected = DROPPED if ".rec" in name else f"{name.split('.')[0]}_encoder.onnx"
        assert where == expected, name
    dropped = [tensor for name, tensor in tiny_source.checkpoint.items() if ".rec" in name]
    assert proof.parameters_dropped == sum(tensor.size for tensor in dropped)
    assert proof.bytes_saved == sum(tensor.nbytes for tensor in dropped)


def test_the_adaptation_branch_is_looked_for_as_it_was_scaled(tiny_source):
    blocks = [
        dataclasses.replace(block, adapter=block.adapter and dataclasses.replace(block.adapter, scale=0.3))
        for block in tiny_source.image.blocks
    ]
    image = fold(dataclasses.replace(tiny_source.image, blocks=tuple(blocks)))
    own = {name: tensor for name, tensor in tiny_source.checkpoint.items() if name.startswith("image.")}
    graphs = {"image_encoder.onnx": image_graph(image), "text_encoder.onnx": onnx.ModelProto()}
    assert len(prove(own, graphs, 0.3).placements) == len(own)
    with pytest.raises(ExportError, match=r"up\.weight of the adaptation branch is not in image_encoder"):
        prove(own, graphs, 1.0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_smuggled_reconstruction_tensor_is_found(tiny_source, graphs, turned: bool):
    name = "image.blocks.2.rec2.weight"
    tensor = tiny_source.checkpoint[name]
    hidden = np.zeros((60, 60), np.float32)
    rows, columns = tensor.T.shape if turned else tensor.shape
    hidden[3 : 3 + rows, 5 : 5 + columns] = tensor.T if turned else tensor
    graphs["image_encoder.onnx"].graph.initializer.append(numpy_helper.from_array(hidden, "innocent"))
    with pytest.raises(ExportError, match=f"{name} is in image_encoder.onnx"):
        prove(tiny_source.checkpoint, graphs, 1.0)


@pytest.mark.parametrize("name", ["image.blocks.2.rec1.weight", "text.blocks.1.rec2.bias"])
def test_one_flipped_byte_hides_no_reconstruction_tensor(tiny_source, graphs, name: str):
    raw = bytearray(tiny_source.checkpoint[name].tobytes())
    raw[2] ^= 0x10
    flipped = np.frombuffer(bytes(raw), np.float32).reshape(tiny_source.checkpoint[name].shape)
    graphs["text_encoder.onnx"].graph.initializer.append(numpy_helper.from_array(flipped, "innocent"))
    with pytest.raises(ExportError, match=f"{name} is in text_encoder.onnx"):
        prove(tiny_source.checkpoint, graphs, 1.0)


def test_a_tensor_rounded_to_half_is_found_in_another_precisions_graph(tiny_source, graphs):
    name = "image.blocks.2.rec2.weight"
    half = image_graph(fold(tiny_source.image), half=True)
    prove(tiny_source.checkpoint, graphs, 1.0, {"image_encoder.fp16.onnx": half})
    rounded = tiny_source.checkpoint[name].astype(np.float16)
    half.graph.initializer.append(numpy_helper.from_array(rounded, "innocent"))
    with pytest.raises(ExportError, match=rf"{name} is in image_encoder\.fp16\.onnx"):
        prove(tiny_source.checkpoint, graphs, 1.0, {"image_encoder.fp16.onnx": half})


def test_a_reconstruction_name_is_found(tiny_source, graphs):
    weight = numpy_helper.from_array(np.ones(3, np.float32), "blocks.2.rec1.weight")
    graphs["text_encoder.onnx"].graph.initializer.append(weight)
    with pytest.raises(ExportError, match=r"is in text_encoder\.onnx, by its name: blocks\.2\.rec1"):
        prove(tiny_source.checkpoint, graphs, 1.0)


def test_a_missing_adaptation_tensor_is_found(tiny_source, graphs):
    checkpoint = dict(tiny_source.checkpoint)
    checkpoint["image.blocks.1.down.weight"] = checkpoint["image.blocks.1.down.weight"] + np.float32(1e-3)
    with pytest.raises(ExportError, match=r"image\.blocks\.1\.down\.weight of the adaptation branch"):
        prove(checkpoint, graphs, 1.0)


def test_the_bundle_carries_the_report(tiny_source, tmp_path: Path):
    import json

    report = write_bundle(dataclasses.replace(tiny_source, precisions=("fp16",)), tmp_path / "bundle")
    written = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert len(written["proof"]["placements"]) == len(tiny_source.checkpoint)
    assert written["proof"]["parameters_dropped"] == report.proof.parameters_dropped > 0
    assert [stage["stage"] for stage in written["stages"]] == [stage.stage for stage in report.stages]
    assert not (tmp_path / "bundle" / "image_encoder.onnx").exists()
