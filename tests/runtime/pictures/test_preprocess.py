"""The preprocessing against open_clip's own transform, to the bit, and every kind of image file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk_runtime.errors import DataError
from rmatk_runtime.pictures.decode import load_image
from rmatk_runtime.pictures.preprocess import PreprocessSpec, normalise, preprocess, resize, tensor_digest

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth structure plus noise, so that resampling and rounding both matter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([np.sin(x / 7.0), np.cos(y / 5.0), np.sin((x + y) / 11.0)], axis=-1) * 90 + 128
    return Image.fromarray(np.clip(base + rng.normal(0, 20, base.shape), 0, 255).astype(np.uint8))


def reference(image: Image.Image, config: dict[str, Any]) -> np.ndarray:
    import_torchvision()
    from open_clip.transform import PreprocessCfg, image_transform_v2

    # Pillow 13 resizes some shapes vertically first, which Pillow up to 12.3 never did
    whole = Image.Image.resize

    def horizontal_first(self: Image.Image, size: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        return whole(whole(self, (size[0], self.height), *args, **kwargs), size, *args, **kwargs)

    with patch.object(Image.Image, "resize", horizontal_first):
        return image_transform_v2(PreprocessCfg(**config), is_train=False)(image).numpy()


def config(size: int | tuple[int, int], **changes: Any) -> dict[str, Any]:
    return {"size": size, "mean": MEAN, "std": STD, **changes}


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(20, 400), st.integers(20, 400)),
    target=st.sampled_from([96, (64, 64), (48, 80)]),
    mode=st.sampled_from(["shortest", "squash", "longest"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
def test_same_bits_as_open_clip(size, target, mode, interpolation):
    asked = config(target, interpolation=interpolation, resize_mode=mode, fill_color=7)
    image = picture(*size)
    ours, theirs = preprocess(image, PreprocessSpec.from_open_clip(asked)), reference(image, asked)
    assert ours.dtype == np.float32 and ours.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(1920, 1080), (333, 517), (224, 224), (225, 224), (97, 4000)])
def test_same_bits_at_camera_sizes(size):
    spec = PreprocessSpec.from_open_clip(config(224))
    np.testing.assert_array_equal(preprocess(picture(*size), spec), reference(picture(*size), config(224)))


def test_open_clip_ignores_the_interpolation_of_a_non_square_target():
    asked = config((48, 80), interpolation="bilinear")
    spec = PreprocessSpec.from_open_clip(asked)
    np.testing.assert_array_equal(preprocess(picture(200, 300), spec), reference(picture(200, 300), asked))


def test_array_and_image_give_the_same():
    spec = PreprocessSpec(96, 96, MEAN, STD)
    image = picture(300, 200)
    np.testing.assert_array_equal(preprocess(np.asarray(image), spec), preprocess(image, spec))


def test_normalise_is_the_formula():
    spec = PreprocessSpec(2, 2, (0.5, 0.25, 0.1), (0.5, 0.2, 0.4))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    expected = (pixels.astype(np.float64) / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(normalise(pixels, spec), expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)
    batch = np.stack([pixels, 255 - pixels])
    np.testing.assert_array_equal(normalise(batch, spec), [normalise(one, spec) for one in batch])


def test_exif_orientation_is_applied(tmp_path: Path):
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    image.save(tmp_path / "rotated.jpg", exif=exif)
    assert load_image(tmp_path / "rotated.jpg").size == (20, 40)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),  # transparent shows the white behind it
        ("LA", (0, 255), (0, 0, 0)),
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257, (1, 1, 1)),
    ],
)
def test_modes(tmp_path: Path, mode, value, expected):
    Image.new(mode, (4, 4), value).save(tmp_path / "image.png")
    loaded = load_image(tmp_path / "image.png")
    assert loaded.mode == "RGB"
    assert loaded.getpixel((1, 1)) == expected


def test_palette_with_transparency_and_cmyk_and_animation(tmp_path: Path):
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0] * 3 + [10, 20, 30])
    palette.save(tmp_path / "palette.png", transparency=3)
    assert load_image(tmp_path / "palette.png").getpixel((0, 0)) == (255, 255, 255)
    Image.new("CMYK", (4, 4), (0, 0, 0, 0)).save(tmp_path / "print.jpg")
    assert min(load_image(tmp_path / "print.jpg").getpixel((0, 0))) > 250
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "moving.gif").getpixel((0, 0)) == (255, 0, 0)


def test_bad_files_are_named(tmp_path: Path):
    (tmp_path / "text.jpg").write_text("not an image")
    picture(64, 64).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:600])
    for name in ("absent.jpg", "text.jpg", "half.jpg"):
        with pytest.raises(DataError, match=name):
            load_image(tmp_path / name)


def test_bad_specs_are_refused():
    with pytest.raises(ValueError, match="positive"):
        PreprocessSpec(0, 96, MEAN, STD)
    with pytest.raises(ValueError, match="std"):
        PreprocessSpec(96, 96, MEAN, (0.0, 1.0, 1.0))


def test_digest_sees_dtype_shape_and_values():
    a = np.zeros((2, 3), np.float32)
    digests = {tensor_digest(x) for x in (a, a.T, a.astype(np.float64), a + np.float32(1e-30))}
    assert len(digests) == 4


def test_resize_gives_network_size():
    assert resize(picture(37, 111), PreprocessSpec(96, 80, MEAN, STD)).shape == (96, 80, 3)
