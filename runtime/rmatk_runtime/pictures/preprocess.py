"""The one preprocessing: an image on disk or a frame in memory -> the tensor the image encoder expects.

Training, evaluation, export, parity and the runtime all call this module, and none has another way: the
commonest cause of "the exported model is worse" is a second implementation that differs in resampling,
rounding or order (ultralytics #5016: 46 % agreement; rf-detr #1203; anomalib #2448). It needs Pillow and
NumPy only, and gives the same bits as open_clip's evaluation transform.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.errors import DataError

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class PreprocessSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How pixels become a tensor; the fields are those of open_clip's ``PreprocessCfg``.

    ``resize_mode``: ``shortest`` (shorter side to the target, centre crop), ``squash`` (both sides to the
    target, aspect ratio ignored) or ``longest`` (longer side to the target, padded with ``fill_color``).
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"
    fill_color: int = 0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"image size must be positive, not {self.height}x{self.width}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")

    @classmethod
    def from_open_clip(cls, config: Mapping[str, Any]) -> PreprocessSpec:
        """The spec that equals open_clip's evaluation transform for a ``PreprocessCfg`` given as a mapping.

        Keys: ``size`` (int or (height, width)), ``mean``, ``std``, ``interpolation``, ``resize_mode``,
        ``fill_color``. open_clip resizes to a non-square target in mode ``shortest`` bicubically whatever
        its configuration says; the spec records what is done.
        """
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else size
        values = {key: config.get(key) for key in ("interpolation", "resize_mode", "fill_color")}
        fields = {key: value for key, value in values.items() if value is not None}
        if fields.get("resize_mode", "shortest") == "shortest" and height != width:
            fields["interpolation"] = "bicubic"
        stated = {"height": height, "width": width, "mean": config["mean"], "std": config["std"]}
        return msgspec.convert({**stated, **fields}, cls)


def load_image(path: Path) -> Image.Image:
    """Decode an image file to RGB.

    EXIF orientation is applied; alpha is laid on white; 16-bit greyscale is scaled; of an animation the
    first frame is taken.

    Raises:
        DataError: missing, unreadable, truncated or absurdly large file.
    """
    return decode_image(path, str(path))


def decode_image(file: Path | IO[bytes], name: str) -> Image.Image:
    """As :func:`load_image`, from an open file too; errors call it ``name``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image.load()
                return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise DataError(f"no such image: {name}") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is not an image that can be read") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        most = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(f"{name} has more than {most} million pixels", "save it smaller") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{name} cannot be decoded: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB the way a person would expect to see it."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _wide_grey_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _wide_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Scale integer or float greyscale to 8 bits; Pillow's own ``convert`` would clip it to white."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        top = 1.0 if values.size and values.max() <= 1.0 else 255.0
    else:
        top = 65535.0 if image.mode.startswith("I;16") or (values.size and values.max() > 255) else 255.0
    scaled = np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def resize(image: Image.Image | UInt8, spec: PreprocessSpec) -> UInt8:
    """Resize and crop to the network's size.

    Args:
        image: a Pillow image, or a frame (H, W, 3) uint8 RGB.
        spec: the target size and manner.

    Returns:
        (spec.height, spec.width, 3) uint8 RGB, the input of a ``pixels`` graph.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else to_rgb(image)
    resample = _RESAMPLING[spec.interpolation]
    if spec.resize_mode == "squash":
        return np.asarray(picture.resize((spec.width, spec.height), resample))
    picture = picture.resize(_resized_size(picture.size, spec), resample)
    return np.asarray(_centre(picture, spec))


def _resized_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """(width, height) before cropping or padding, with torchvision's and open_clip's rounding."""
    width, height = size
    if spec.resize_mode == "shortest" and spec.height == spec.width:
        # torchvision's Resize(int): the longer side is truncated, not rounded.
        if width <= height:
            return spec.width, int(spec.width * height / width)
        return int(spec.height * width / height), spec.height
    ratios = (height / spec.height, width / spec.width)
    ratio = max(ratios) if spec.resize_mode == "longest" else min(ratios)
    return round(width / ratio), round(height / ratio)


def _centre(picture: Image.Image, spec: PreprocessSpec) -> Image.Image:
    """Crop, or pad with ``fill_color``, to the target about the centre, with torchvision's rounding."""
    width, height = picture.size
    pad_x, pad_y = max(spec.width - width, 0), max(spec.height - height, 0)
    if pad_x or pad_y:
        fill = (spec.fill_color,) * 3
        canvas = Image.new("RGB", (width + pad_x, height + pad_y), fill)
        canvas.paste(picture, (pad_x // 2, pad_y // 2))
        picture, (width, height) = canvas, canvas.size
    left = round((width - spec.width) / 2.0)
    top = round((height - spec.height) / 2.0)
    return picture.crop((left, top, left + spec.width, top + spec.height))


def normalise(pixels: UInt8, spec: PreprocessSpec) -> Float32:
    """Scale to [0, 1], normalise per channel, channels first.

    Args:
        pixels: (..., H, W, 3) uint8 RGB at the network's size.

    Returns:
        (..., 3, H, W) float32, C-contiguous.
    """
    *batch, height, width, _ = pixels.shape
    tensor = np.empty((*batch, 3, height, width), dtype=np.float32)
    for channel, values in enumerate(_normalised(spec.mean, spec.std)):
        np.take(values, pixels[..., channel], out=tensor[..., channel, :, :], mode="clip")
    return tensor


@lru_cache(maxsize=8)
def _normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Float32:
    """(3, 256) float32: what becomes of each value, per channel; looking it up takes half the time."""
    # Order and dtype follow ToTensor and Normalize to the bit: float32 division by 255, minus mean, over std.
    table = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    table /= np.float32(255.0)
    table -= np.asarray(mean, dtype=np.float32)[:, None]
    table /= np.asarray(std, dtype=np.float32)[:, None]
    return table


def preprocess(image: Image.Image | UInt8, spec: PreprocessSpec) -> Float32:
    """Image (any size) -> (3, spec.height, spec.width) float32, normalised: ``normalise(resize(image))``."""
    return normalise(resize(image, spec), spec)


def tensor_digest(tensor: npt.NDArray[Any]) -> str:
    """Hex SHA-256 over dtype, shape and bytes: two machines preprocess alike if and only if these agree."""
    header = f"{tensor.dtype.str}{tensor.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(tensor).tobytes()).hexdigest()
