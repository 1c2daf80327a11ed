"""A new engine against the golden set: kept with its parity, or deleted and said so."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.engines import check_engine, why_unchecked
from rmatk_runtime.errors import BackendError, BundleError, ParityError
from rmatk_runtime.onnx_runtime.backend import create_session
from rmatk_runtime.selection import open_backend
from rmatk_runtime.tensorrt.key import Machine
from rmatk_runtime.tensorrt.store import BuiltEngine, survey, write_engine
from tests.runtime.fakes.engine_keys import key_of

HERE = Machine("aarch64", "Orin", "8.7", {"tensorrt": "10.3.0"})


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))


@pytest.fixture
def engine(bundle: Bundle) -> BuiltEngine:
    return write_engine(bundle, b"plan", key=key_of(bundle), built="today", seconds=1.0, layers=9)


class Wrong(Backend):
    """An engine that gives every picture the same embedding, or does not run at all."""

    name = "wrong"

    def __init__(self, error: BackendError | None = None) -> None:
        self.error, self.closed = error, False

    def embed(self, images: Float32) -> Float32:
        if self.error is not None:
            raise self.error
        return np.tile(np.eye(24, dtype=np.float32)[0], (len(images), 1))

    def close(self) -> None:
        self.closed = True


def test_a_sound_engine_is_kept_with_its_parity(bundle: Bundle, engine: BuiltEngine):
    checked = check_engine(bundle, engine, lambda engine: open_backend(bundle, "cpu"))
    assert checked.sidecar.parity and all(checked.sidecar.parity)
    (found,) = survey(bundle, HERE)
    assert found.engine == checked and found.usable


def test_an_engine_that_fails_is_deleted_and_said_so(bundle: Bundle, engine: BuiltEngine):
    backend = Wrong()
    with pytest.raises(ParityError, match="fails parity and was deleted: wrong fp32: cosine"):
        check_engine(bundle, engine, lambda engine: backend)
    assert survey(bundle, HERE) == [] and not list(engine.path.parent.iterdir()) and backend.closed


def test_an_engine_behind_wrong_preprocessing_is_not_blamed(bundle: Bundle, engine: BuiltEngine):
    spec = msgspec.structs.replace(bundle.manifest.preprocess, mean=(0.5, 0.5, 0.4))
    changed = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, preprocess=spec))
    with pytest.raises(ParityError, match="was built and not checked: preprocessing: 8 of 8"):
        check_engine(changed, engine, lambda engine: open_backend(bundle, "cpu"))
    (found,) = survey(bundle, HERE)
    assert found.engine is not None and found.engine.sidecar.parity is None


def test_known_bad_versions_give_their_cure(bundle: Bundle, engine: BuiltEngine):
    with pytest.raises(ParityError) as caught:
        check_engine(bundle, engine, lambda engine: Wrong())
    assert "use 10.8 or newer" in str(caught.value.hint)
    newer = msgspec.structs.replace(engine.key, tensorrt="10.16.0")
    other = BuiltEngine(engine.path, msgspec.structs.replace(engine.sidecar, key=newer))
    with pytest.raises(ParityError) as caught:
        check_engine(bundle, other, lambda engine: Wrong())
    assert "--precision" in str(caught.value.hint)


def test_an_engine_that_does_not_run_is_deleted(bundle: Bundle, engine: BuiltEngine):
    with pytest.raises(BackendError, match="no kernel image"):
        check_engine(bundle, engine, lambda engine: Wrong(BackendError("no kernel image")))
    assert not list(engine.path.parent.iterdir())


def test_why_an_engine_cannot_be_checked_here(bundle: Bundle, engine: BuiltEngine):
    assert why_unchecked(bundle, engine, HERE) is None
    elsewhere = Machine("aarch64", None, None, HERE.tensorrt)
    assert why_unchecked(bundle, engine, elsewhere) == "this machine has no GPU that NVIDIA's driver lists"
    without = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, golden=None))
    assert why_unchecked(without, engine, HERE) == "the bundle was exported without a golden set"


@pytest.fixture
def pixel_bundle(tiny_run, tiny, tmp_path: Path) -> Bundle:
    from rmatk.deployment.from_run import export_source
    from rmatk_export.bundle_writer import write_bundle

    write_bundle(export_source(tiny_run, tiny, golden=8, pixels=True), tmp_path / "pixels")
    return Bundle.open(tmp_path / "pixels")


class OnPixels(Backend):
    """ONNX Runtime on the graph that takes pixels, its answers turned round if ``wrong``."""

    name = "fake"

    def __init__(self, bundle: Bundle, *, wrong: bool) -> None:
        self.session = create_session(bundle.file(bundle.graph("fp32", "pixels").file))
        self.sign = -1 if wrong else 1

    def embed(self, images: Float32) -> Float32:
        assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
        return self.sign * self.session.run(None, {"pixels": images})[0]


def test_an_engine_on_pixels_is_checked_on_pixels(pixel_bundle: Bundle, engine: BuiltEngine):
    digest = pixel_bundle.manifest.files["image_encoder.pixels.onnx"].sha256
    key = msgspec.structs.replace(engine.key, input="pixels", onnx_sha256=digest)
    one = write_engine(pixel_bundle, b"plan", key=key, built="today", seconds=1.0, layers=9)
    checked = check_engine(pixel_bundle, one, lambda _: OnPixels(pixel_bundle, wrong=False))
    assert [stage.stage for stage in checked.sidecar.parity or ()] == ["preprocessing", "fake fp32 on pixels"]
    with pytest.raises(ParityError, match="fake fp32 on pixels: cosine"):
        check_engine(pixel_bundle, one, lambda _: OnPixels(pixel_bundle, wrong=True))
    assert not one.path.exists()
    with pytest.raises(BundleError, match="no fp16 graph on pixels, only fp32 on images, fp32 on pixels"):
        pixel_bundle.graph("fp16", "pixels")
