"""Bundles are published only when parity holds; what is wrong is named and nothing is left behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from rmatk_export.bundle_writer import write_bundle
from rmatk_export.fold import fold
from rmatk_export.parity.folded import run_image
from rmatk_export.weights import map_arrays
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import ExportError, ParityError, StorageError
from rmatk_runtime.pictures.preprocess import preprocess


def refused(source, folder: Path, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        write_bundle(source, folder / "bundle")
    assert list(folder.iterdir()) == []


def test_a_sound_bundle_reports_every_stage(tiny_source, tmp_path: Path):
    report = write_bundle(tiny_source, tmp_path / "bundle")
    stages = [stage.stage for stage in report.stages]
    image = ["preprocessing", "torch folded", "onnxruntime cpu fp32"]
    assert stages == [*image, "tokenizer", "text encoder fp32"]
    known = [stage.accuracy_difference is not None for stage in report.stages]
    assert known == [False, True, True, False, False]
    assert all(report.stages)
    assert set(report.sizes) == {path.name for path in (tmp_path / "bundle").iterdir()}
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.provenance.adapter_digest == tiny_source.adapter_digest
    assert set(manifest.provenance.graph_digests) == {"image_encoder.onnx", "text_encoder.onnx"}
    assert manifest.golden is not None and manifest.golden.images == 8


def test_half_precision_travels_beside_full(tiny_source, tmp_path: Path):
    both = dataclasses.replace(tiny_source, precisions=("fp16", "fp32"))
    report = write_bundle(both, tmp_path / "bundle")
    engines = [stage for stage in report.stages if stage.stage.startswith("onnxruntime")]
    assert [stage.stage for stage in engines] == ["onnxruntime cpu fp16", "onnxruntime cpu fp32"]
    assert engines[0].max_embedding_difference > engines[1].max_embedding_difference
    assert report.sizes["image_encoder.fp16.onnx"] < 0.7 * report.sizes["image_encoder.onnx"]
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.graph().precision == "fp16" and bundle.graph("fp32").file == "image_encoder.onnx"


def test_products_beyond_halfs_range_are_named_in_the_report(tiny_source, tmp_path: Path):
    """A weight of 70,000 for a hidden unit that nothing follows: the same function, but not in float16."""
    block = tiny_source.image.blocks[0]
    weight, out = block.mlp_in.weight.copy(), block.mlp_out.weight.copy()
    weight[0, 0], out[0] = 70000.0, 0.0
    changed = dataclasses.replace(
        block,
        mlp_in=dataclasses.replace(block.mlp_in, weight=weight),
        mlp_out=dataclasses.replace(block.mlp_out, weight=out),
    )
    image = dataclasses.replace(tiny_source.image, blocks=(changed, *tiny_source.image.blocks[1:]))
    with torch.no_grad():
        tensors = np.stack([preprocess(p, tiny_source.preprocess) for p in tiny_source.golden.images])
        golden = dataclasses.replace(
            tiny_source.golden, embeddings=run_image(fold(image), torch.from_numpy(tensors)).numpy()
        )
    source = dataclasses.replace(tiny_source, image=image, golden=golden, precisions=("fp32", "fp16"))
    report = write_bundle(source, tmp_path / "bundle")
    assert report.float32_products == ("blocks.0.mlp_in",)
    written = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert written["float32_products"] == ["blocks.0.mlp_in"]
    assert write_bundle(tiny_source, tmp_path / "full").float32_products == ()


def test_graphs_on_pixels_give_the_same(tiny_source, tmp_path: Path):
    source = dataclasses.replace(tiny_source, precisions=("fp32", "fp16"), pixels=True)
    report = write_bundle(source, tmp_path / "bundle")
    stages = {stage.stage: stage for stage in report.stages}
    for precision in ("fp32", "fp16"):
        plain, pixels = (stages[f"onnxruntime cpu {precision}{end}"] for end in ("", " on pixels"))
        assert pixels and pixels.max_embedding_difference == plain.max_embedding_difference
    bundle = Bundle.open(tmp_path / "bundle")
    assert [graph.input for graph in bundle.graphs()] == ["images", "images"]
    assert len(bundle.manifest.graphs) == 4


def test_parity_finds_a_wrong_constant_in_a_graph_on_pixels(rmatk, alter, tiny_source, tmp_path: Path):
    """From the golden set; the graph on images is sound, so nothing else fails."""
    sound = tmp_path / "bundle"
    write_bundle(dataclasses.replace(tiny_source, pixels=True), sound)

    def darker(model: onnx.ModelProto) -> None:
        mean = next(weight for weight in model.graph.initializer if weight.name == "pixels.mean")
        mean.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(mean) + np.float32(0.1), mean.name))

    wrong = alter(sound, "fp32", darker, kind="pixels")
    names = ("preprocessing", "onnxruntime cpu fp32", "onnxruntime cpu fp32 on pixels")
    for bundle, expected in ((sound, (True, True, True)), (wrong, (True, True, False))):
        code, out, err = rmatk("parity", bundle, "--json")
        found = {stage["stage"]: stage["passed"] for stage in json.loads(out)["stages"]}
        assert found == dict(zip(names, expected, strict=True))
        assert code == (0 if all(expected) else 3) and (names[-1] in err) is not all(expected)


def test_golden_pictures_can_stay_at_home(tiny_source, tmp_path: Path):
    write_bundle(dataclasses.replace(tiny_source, ship_golden=False), tmp_path / "bundle")
    assert Bundle.open(tmp_path / "bundle").golden() is None
    assert not (tmp_path / "bundle" / "golden.npz").exists()


def test_a_wrong_weight_is_found_at_the_fold(tiny_source, tmp_path: Path):
    block = tiny_source.image.blocks[1]
    adapter = dataclasses.replace(block.adapter, scale=block.adapter.scale * 1.5)
    blocks = (tiny_source.image.blocks[0], dataclasses.replace(block, adapter=adapter))
    image = dataclasses.replace(tiny_source.image, blocks=(*blocks, *tiny_source.image.blocks[2:]))
    wrong = dataclasses.replace(tiny_source, image=image)
    refused(wrong, tmp_path, ParityError, "'torch folded'")


def test_another_preprocessing_constant_is_found(tiny_source, tmp_path: Path):
    spec = msgspec.structs.replace(tiny_source.preprocess, mean=(0.5, 0.5, 0.4))
    refused(dataclasses.replace(tiny_source, preprocess=spec), tmp_path, ParityError, "'preprocessing'")


def test_a_wrong_text_tower_is_found(tiny_source, tmp_path: Path):
    text = map_arrays(tiny_source.text, lambda array: array + np.float32(0.05))
    refused(dataclasses.replace(tiny_source, text=text), tmp_path, ParityError, "'text encoder fp32'")


def test_a_graph_that_differs_from_the_arrays_is_found(tiny_source, tmp_path: Path, monkeypatch):
    """The engine's stage is named when arrays are right and what was written is not."""
    from rmatk_export import bundle_writer as bundle
    from rmatk_export.graph import encoder as graph

    def shifted(tower, **options):
        return graph.image_graph(map_arrays(tower, lambda array: array * np.float32(1.01)), **options)

    monkeypatch.setattr(bundle, "image_graph", shifted)
    refused(tiny_source, tmp_path, ParityError, "'onnxruntime cpu fp32'")


def test_a_tokenizer_that_gives_other_ids_is_found(tiny_source, tmp_path: Path):
    tokenizer = json.loads(tiny_source.tokenizer.json)
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["blue"], vocabulary["red"] = vocabulary["red"], vocabulary["blue"]
    exported = dataclasses.replace(tiny_source.tokenizer, json=json.dumps(tokenizer))
    wrong = dataclasses.replace(tiny_source, tokenizer=exported)
    refused(
        wrong, tmp_path, ParityError, "'tokenizer' gives other ids for 2 prompts, first 'a photo of a blue"
    )


def test_weights_that_are_not_finite_are_refused(tiny_source, tmp_path: Path):
    image = map_arrays(tiny_source.image, lambda array: array * np.float32(np.inf))
    refused(dataclasses.replace(tiny_source, image=image), tmp_path, ExportError, "not finite")


def test_someone_elses_folder_is_left_alone(tiny_source, tmp_path: Path):
    (tmp_path / "photo.jpg").write_text("precious")
    with pytest.raises(StorageError, match="holds other files"):
        write_bundle(tiny_source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
