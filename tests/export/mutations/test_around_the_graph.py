"""What goes into a graph and what it is written from: preprocessing, and LayerScale in the fold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL.Image import Resampling

from rmatk.run import Run
from rmatk_export.weights import Linear
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import MANIFEST, encode_manifest

CommandLine = Callable[..., tuple[int, str, str]]


def test_unchanged_it_passes(rmatk: CommandLine, sound: Path, run: Run, tmp_path: Path):
    assert rmatk("export", run.path, "-o", tmp_path / "bundle", "--golden", 8, "--pixels")[0] == 0
    assert rmatk("parity", sound)[0] == 0
    assert rmatk("parity", sound, run.record.data, "--against", run.path)[0] == 0


CONSTANTS = {
    "mean": (0.5, 0.5, 0.49),
    "std": (0.25, 0.26, 0.25),
    "interpolation": "bilinear",
    "resize_mode": "squash",
    "height": 40,
    "width": 24,
}
SIZES = ("height", "width")  # these the graph itself contradicts, before anything runs


class TestPreprocessing:
    @pytest.fixture(params=CONSTANTS)
    def constant(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_another_constant_in_the_manifest(
        self, refused, monkeypatch: pytest.MonkeyPatch, constant: str
    ) -> None:
        from rmatk_export import bundle_writer as bundle

        written = bundle.encode_manifest

        def changed(manifest):
            spec = msgspec.structs.replace(manifest.preprocess, **{constant: CONSTANTS[constant]})
            return written(msgspec.structs.replace(manifest, preprocess=spec))

        monkeypatch.setattr(bundle, "encode_manifest", changed)
        if constant in SIZES:
            assert "cannot be used: it takes images (None, 3, 32, 32)" in refused(1)
        else:
            assert "was not written: the stage 'preprocessing'" in refused(3)

    def test_another_constant_on_the_device(
        self, rmatk: CommandLine, sound: Path, run: Run, tmp_path: Path, constant: str
    ):
        copy = Path(shutil.copytree(sound, tmp_path / "bundle"))
        manifest = Bundle.open(copy).manifest
        spec = msgspec.structs.replace(manifest.preprocess, **{constant: CONSTANTS[constant]})
        (copy / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(manifest, preprocess=spec)))
        code, out, error = rmatk("parity", copy, "--json")
        if constant in SIZES:
            assert code == 1 and "cannot be used: it takes images (None, 3, 32, 32)" in error
            return
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
        from rmatk_export import bundle_writer as bundle

        written = bundle.with_pixels

        def changed(model, spec):
            return written(model, msgspec.structs.replace(spec, std=(0.25, 0.26, 0.25)))

        monkeypatch.setattr(bundle, "with_pixels", changed)
        assert "the stage 'onnxruntime cpu fp32 on pixels'" in refused(3, "--pixels")


def _resampling() -> dict[str, Resampling]:
    from rmatk_runtime.pictures import preprocess

    return preprocess.RESAMPLING


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
