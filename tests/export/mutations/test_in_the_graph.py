"""A graph that is not what it should be: by the proof, by the checks, by parity, by the digests."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rmatk.run import Run
from rmatk_export.weights import ImageStem, Linear

CommandLine = Callable[..., tuple[int, str, str]]
Change = Callable[[onnx.ModelProto], None]
RECONSTRUCTION = ("image.blocks.1.rec1.weight", "image.blocks.2.rec2.weight", "image.blocks.2.rec2.bias")


class TestReconstructionInAGraph:
    """The proof finds it by content: parity cannot, since the graph computes the same."""

    @pytest.mark.parametrize("flip", [False, True], ids=["whole", "one byte flipped"])
    @pytest.mark.parametrize("name", RECONSTRUCTION)
    def test_as_a_weight_of_its_own(self, refused, change_graph, run: Run, name: str, flip: bool):
        raw = bytearray(run.adapter[name].tobytes())
        raw[1] ^= 0x20 if flip else 0
        value = np.frombuffer(bytes(raw), np.float32).reshape(run.adapter[name].shape)
        change_graph(lambda model: model.graph.initializer.append(numpy_helper.from_array(value, "innocent")))
        assert f"the reconstruction tensor {name} is in image_encoder.onnx" in refused(1)

    def test_inside_a_product_that_does_not_use_it(self, refused, monkeypatch: pytest.MonkeyPatch, run: Run):
        from rmatk_export import bundle_writer as bundle

        name = "image.blocks.2.rec2.weight"
        hidden, fold = run.adapter[name], bundle.fold

        def stuffed(tower):
            folded = fold(tower)
            if not isinstance(folded.stem, ImageStem):
                return folded
            block = folded.blocks[2]
            inner = block.mlp_in.weight.shape[1]
            wider = dataclasses.replace(
                block,
                mlp_in=Linear(
                    np.concatenate([block.mlp_in.weight, hidden], axis=1),
                    np.pad(block.mlp_in.bias, (0, hidden.shape[1])),
                ),
                wide_out=Linear(
                    np.insert(block.wide_out.weight, [inner] * hidden.shape[1], 0, axis=0),
                    block.wide_out.bias,
                ),
            )
            return dataclasses.replace(folded, blocks=(*folded.blocks[:2], wider, *folded.blocks[3:]))

        monkeypatch.setattr(bundle, "fold", stuffed)
        assert f"the reconstruction tensor {name} is in image_encoder.onnx" in refused(1)

    def test_in_the_half_graph_alone(self, refused, change_graph, run: Run):
        value = run.adapter[RECONSTRUCTION[1]].astype(np.float16)

        def smuggle(model: onnx.ModelProto) -> None:
            if any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in model.graph.initializer):
                model.graph.initializer.append(numpy_helper.from_array(value, "innocent"))

        change_graph(smuggle)
        said = refused(1, "--precision", "fp16")
        assert f"the reconstruction tensor {RECONSTRUCTION[1]} is in image_encoder.fp16.onnx" in said


class TestOneByteOfAWeight:
    """In a bundle on a device: found by the digest; if the manifest was made to agree, by parity where it is
    one that matters. The last bits of one number change no answer and no figure."""

    def test_by_the_digest(self, rmatk: CommandLine, sound: Path, tmp_path: Path):
        copy = Path(shutil.copytree(sound, tmp_path / "bundle"))
        raw = (copy / "image_encoder.onnx").read_bytes()
        weights = {weight.name: weight for weight in onnx.load_from_string(raw).graph.initializer}
        at = raw.index(weights["blocks.1.mlp_in.weight"].raw_data) + 4  # least significant: 1e-7 of a number
        (copy / "image_encoder.onnx").write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        code, _, error = rmatk("parity", copy)
        assert code == 1 and "image_encoder.onnx was altered" in error

    @pytest.mark.parametrize("photos", [False, True], ids=["golden set", "against the run"])
    def test_by_parity(self, rmatk: CommandLine, sound: Path, run: Run, alter, photos: bool):
        def flip(model: onnx.ModelProto) -> None:
            weight = next(w for w in model.graph.initializer if w.name == "blocks.1.norm_1.weight")
            raw = bytearray(weight.raw_data)
            raw[4 * 7 + 3] ^= 0x80  # the sign of number 7
            weight.raw_data = bytes(raw)

        bundle = alter(sound, "fp32", flip)
        data = (run.record.data, "--against", run.path, "--bisect") if photos else ()
        code, out, error = rmatk("parity", bundle, *data)
        assert code == 3 and "fails at the stage 'onnxruntime cpu fp32'" in error
        if photos:
            assert "at the node blocks.1.norm_1 (LayerNormalization" in " ".join(out.split())


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def scale_on_k(model: onnx.ModelProto) -> None:
    """(q) (k s)^T: the same scores, but not in TensorRT 10.3 to 10.7's half."""
    scaled, ready = node_of(model, "blocks.1.q.scaled"), node_of(model, "blocks.1.q.ready")
    ready.input[0] = scaled.input[0]
    of_k = node_of(model, "blocks.1.k.ready")
    scaled.input[0], of_k.input[0] = of_k.input[0], scaled.output[0]


def scale_on_both(model: onnx.ModelProto) -> None:
    """(q sqrt s) (k sqrt s)^T, as PyTorch's exporters write it (NVIDIA/TensorRT #4328, #4333)."""
    root = numpy_helper.from_array(np.array(0.5, np.float32), "root")
    model.graph.initializer.append(root)
    node_of(model, "blocks.1.q.scaled").input[1] = "root"
    of_k = node_of(model, "blocks.1.k.ready")
    position = list(model.graph.node).index(of_k)
    model.graph.node.insert(
        position, helper.make_node("Mul", [of_k.input[0], "root"], ["k.scaled"], name="k")
    )
    node_of(model, "blocks.1.k.ready").input[0] = "k.scaled"


def scale_on_scores(model: onnx.ModelProto) -> None:
    scaled, ready = node_of(model, "blocks.1.q.scaled"), node_of(model, "blocks.1.q.ready")
    ready.input[0], factor = scaled.input[0], scaled.input[1]
    scores = node_of(model, "blocks.1.scores")
    position = list(model.graph.node).index(scores) + 1
    model.graph.node.insert(position, helper.make_node("Mul", ["raw", factor], ["blocks.1.scores"], name="s"))
    scores.output[0] = "raw"


def wrong_scale(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.3, np.float32), "wrong"))
    node_of(model, "blocks.1.q.scaled").input[1] = "wrong"


class TestScaleOfAttention:
    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (scale_on_k, "q by None and k from Mul"),
            (scale_on_both, "q by 0.5 and k from Mul"),
            (scale_on_scores, "scores straight from a MatMul, found Mul"),
            (wrong_scale, "q by 0.3"),
        ],
    )
    def test_the_checks_name_it(self, refused, change_graph, change: Change, found: str):
        change_graph(change)
        said = refused(1)
        assert "blocks.1." in said and found in said

    def test_a_wrong_scale_on_the_device_is_the_graphs_stage(self, rmatk: CommandLine, sound: Path, alter):
        code, _, error = rmatk("parity", alter(sound, "fp32", wrong_scale))
        assert code == 3 and "fails at the stage 'onnxruntime cpu fp32'" in error
