"""What may go wrong on the way, done on purpose: each is refused, the right stage or proof in the message.

A small CLIP with LayerScale in both towers goes through the commands as typed, with one function or one file
changed. ``rmatk export`` leaves nothing behind, ``rmatk parity`` ends with exit code 3.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL.Image import Resampling

from rmatk.backbone import Backbone
from rmatk.run import Run
from rmatk_export.weights import FoldedTower, ImageStem, Linear
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.manifest import MANIFEST, encode_manifest

CommandLine = Callable[..., tuple[int, str, str]]
Change = Callable[[onnx.ModelProto], None]
RECONSTRUCTION = ("image.blocks.1.rec1.weight", "image.blocks.2.rec2.weight", "image.blocks.2.rec2.bias")


@pytest.fixture(scope="module")
def backbone(tiny_clip) -> Backbone:
    """LayerScale far from one, so that leaving it out cannot pass."""
    clip: Backbone = tiny_clip(seed=5, vision={"ls_init_value": 0.3}, ls_init_value=0.2)
    return clip


@pytest.fixture(scope="module")
def run(backbone: Backbone, draw_photos, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from rmatk.config import TrainConfig
    from rmatk.train import train

    root = tmp_path_factory.mktemp("mutations")
    photos = draw_photos(root / "photos", {"red_stripe": 6, "green_check": 6, "blue_dot": 6})
    config = TrainConfig(model=backbone.name, shots=6, epochs=2, lr=0.02, rank=4)
    return train(config, backbone, photos, root / "run")


@pytest.fixture(scope="module")
def sound(run: Run, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle when nothing is changed."""
    from rmatk.deploy import export_source
    from rmatk_export.bundle import write_bundle

    path = tmp_path_factory.mktemp("sound") / "bundle"
    write_bundle(export_source(run, backbone, golden=8), path)
    return path


@pytest.fixture(autouse=True)
def loaded(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line finds this backbone, whatever name the run gives."""
    monkeypatch.setattr("rmatk.backbone.load_backbone", lambda *names: backbone)


@pytest.fixture
def refused(rmatk: CommandLine, run: Run, tmp_path: Path) -> Callable[..., str]:
    """Exports and expects it to fail with this exit code -> the message."""

    def export(code: int, *options: str) -> str:
        out = tmp_path / "out" / "bundle"
        out.parent.mkdir()
        found, _, error = rmatk("export", run.path, "-o", out, "--golden", 8, *options)
        assert found == code, error
        assert list(out.parent.iterdir()) == []
        return error

    return export


@pytest.fixture
def change_graph(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Changes every image graph as it is written, before anything looks at it."""
    from rmatk_export import bundle

    written = bundle.image_graph

    def install(change: Change) -> None:
        def changed(tower: FoldedTower[ImageStem], **options: bool) -> onnx.ModelProto:
            model = written(tower, **options)
            change(model)
            return model

        monkeypatch.setattr(bundle, "image_graph", changed)

    return install


def test_unchanged_it_passes(rmatk: CommandLine, sound: Path, run: Run, tmp_path: Path):
    assert rmatk("export", run.path, "-o", tmp_path / "bundle", "--golden", 8, "--pixels")[0] == 0
    assert rmatk("parity", sound)[0] == 0
    assert rmatk("parity", sound, run.record.data, "--against", run.path)[0] == 0


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
        from rmatk_export import bundle

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


CONSTANTS = {
    "mean": (0.5, 0.5, 0.49),
    "std": (0.25, 0.26, 0.25),
    "interpolation": "bilinear",
    "resize_mode": "squash",
    "height": 40,
    "width": 24,
}


class TestPreprocessing:
    @pytest.fixture(params=CONSTANTS)
    def constant(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_another_constant_in_the_manifest(
        self, refused, monkeypatch: pytest.MonkeyPatch, constant: str
    ) -> None:
        from rmatk_export import bundle

        written = bundle.encode_manifest

        def changed(manifest):
            spec = msgspec.structs.replace(manifest.preprocess, **{constant: CONSTANTS[constant]})
            return written(msgspec.structs.replace(manifest, preprocess=spec))

        monkeypatch.setattr(bundle, "encode_manifest", changed)
        assert "was not written: the stage 'preprocessing'" in refused(3)

    def test_another_constant_on_the_device(
        self, rmatk: CommandLine, sound: Path, run: Run, tmp_path: Path, constant: str
    ):
        copy = Path(shutil.copytree(sound, tmp_path / "bundle"))
        manifest = Bundle.open(copy).manifest
        spec = msgspec.structs.replace(manifest.preprocess, **{constant: CONSTANTS[constant]})
        (copy / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(manifest, preprocess=spec)))
        code, out, error = rmatk("parity", copy, "--json")
        assert code == 3 and "fails at the stage 'preprocessing'" in error
        assert [stage["stage"] for stage in json.loads(out)["stages"]] == ["preprocessing"]
        code, _, error = rmatk("parity", copy, run.record.data, "--against", run.path)
        assert code == 3 and f"fails at the stage 'preprocessing': has {constant}" in error

    def test_an_implementation_that_resamples_otherwise(
        self, rmatk: CommandLine, sound: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setitem(_resampling(), "bicubic", Resampling.LANCZOS)
        code, _, error = rmatk("parity", sound)
        assert code == 3 and "fails at the stage 'preprocessing': 8 of 8 tensors differ" in error

    def test_another_constant_inside_a_graph_on_pixels(self, refused, monkeypatch: pytest.MonkeyPatch):
        from rmatk_export import bundle

        written = bundle.with_pixels

        def changed(model, spec):
            return written(model, msgspec.structs.replace(spec, std=(0.25, 0.26, 0.25)))

        monkeypatch.setattr(bundle, "with_pixels", changed)
        assert "the stage 'onnxruntime cpu fp32 on pixels'" in refused(3, "--pixels")


def _resampling() -> dict[str, Resampling]:
    from rmatk_runtime import preprocess

    return preprocess._RESAMPLING


class TestLayerScale:
    """Left out of one product of one tower: the fold's own stage, not the graph's."""

    @pytest.fixture(params=[("image", 0), ("image", 3), ("text", 1)], ids=str)
    def tower(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        from rmatk_export import fold

        tower, place = request.param
        scaled = fold._scaled
        numbers: Iterator[int] = iter(range(1000))
        width = {"image": 48, "text": 32}[tower]

        def dropping(linear: Linear, scale: np.ndarray | None) -> Linear:
            assert scale is not None
            if len(scale) == width and next(numbers) % 6 == place:  # two per block, three blocks
                return linear
            return scaled(linear, scale)

        monkeypatch.setattr(fold, "_scaled", dropping)
        return str(tower)

    def test_at_export(self, refused, tower: str):
        stage = {"image": "torch folded", "text": "text encoder fp32"}[tower]
        assert f"was not written: the stage '{stage}'" in refused(3)

    def test_against_the_run(self, rmatk: CommandLine, sound: Path, run: Run, tower: str):
        """The sound bundle, and a fold that has gone wrong since: only the image tower is folded anew."""
        code, _, error = rmatk("parity", sound, run.record.data, "--against", run.path)
        assert (code, "'torch folded'" in error) == ((3, True) if tower == "image" else (0, False))
