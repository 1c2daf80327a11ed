"""The one preprocessing: an image on disk or a frame in memory -> the tensor the image encoder expects.

Training, evaluation, export, parity and the runtime all call this module, and none has another way: the
commonest cause of "the exported model is worse" is a second implementation that differs in resampling,
rounding or order (ultralytics #5016: 46 % agreement; rf-detr #1203; anomalib #2448). It needs Pillow and
NumPy only.

Resizing is two passes of one axis each, the horizontal one first, so that every version of Pillow gives the
same bits. That equals open_clip's evaluation transform to the bit with Pillow up to 12.3, and with Pillow 13
except where that resizes vertically first: where the height loses more than twice as many pixels as the
width. There, and in pictures of more than 100:1, values may differ by a level of 255.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from rmatk_runtime.arrays import Float32, UInt8
from rmatk_runtime.pictures.modes import Stretch, to_rgb

FURTHEST = 100
"""Width over height, or height over width, from which only the part that is kept is resized."""
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_LARGEST_INPUT = 2048  # pixels: twice the side of the largest CLIP model


class PreprocessSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How pixels become a tensor; the fields are those of open_clip's ``PreprocessCfg``.

    ``resize_mode``: ``shortest`` (shorter side to the target, centre crop), ``squash`` (both sides to the
    target, aspect ratio ignored) or ``longest`` (longer side to the target, padded with ``fill_color``).
    ``passes``: the order of the two passes of a resize; None, in files of before rmatk recorded it, means the
    same. ``stretch``: how greyscale of 16 bits becomes 8 bits, see
    :data:`~rmatk_runtime.pictures.modes.Stretch`.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"
    fill_color: int = 0
    passes: Literal["horizontal-first"] | None = None
    stretch: Stretch = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"image size must be positive, not {self.height}x{self.width}")
        if max(self.height, self.width) > _LARGEST_INPUT:
            raise ValueError(f"image size must be at most {_LARGEST_INPUT}, not {self.height}x{self.width}")
        if not all(1e-6 <= value <= 1e6 for value in self.std):
            raise ValueError(f"std must be positive, not {self.std}")
        if isinstance(self.stretch, tuple) and not self.stretch[0] < self.stretch[1]:
            raise ValueError(f"stretch must rise, not {self.stretch}")
        if not all(abs(value) <= 1e6 for value in self.mean) or not 0 <= self.fill_color <= 255:
            raise ValueError(f"mean {self.mean} or fill colour {self.fill_color} is out of range")

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
        stated["passes"] = "horizontal-first"
        return msgspec.convert({**stated, **fields}, cls)


def resize(image: Image.Image | UInt8, spec: PreprocessSpec) -> UInt8:
    """Resize and crop to the network's size.

    Args:
        image: a Pillow image, or a frame (H, W, 3) uint8 RGB.
        spec: the target size and manner.

    Returns:
        (spec.height, spec.width, 3) uint8 RGB, the input of a ``pixels`` graph.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else to_rgb(image, spec.stretch)
    resample = RESAMPLING[spec.interpolation]
    if spec.resize_mode == "squash":
        return np.asarray(_two_passes(picture, (spec.width, spec.height), resample))
    if spec.resize_mode == "shortest" and max(picture.size) > FURTHEST * min(picture.size):
        return np.asarray(_kept_part(picture, spec, resample))
    return np.asarray(centred(_two_passes(picture, resized_size(picture.size, spec), resample), spec))


def _two_passes(picture: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resize to (width, height), the width first."""
    return picture.resize((size[0], picture.height), resample).resize(size, resample)


def _kept_part(picture: Image.Image, spec: PreprocessSpec, resample: Image.Resampling) -> Image.Image:
    """What resizing the whole picture and cropping leaves, without the part that is cut off.

    Whole, 1 x 60,000 pixels would become 224 x 13,440,000. Values differ from that by one level at most.
    """
    left, top, right, bottom = kept_box(picture.size, spec)
    x0, x1 = with_margin(left, right, picture.width, spec.width)
    y0, y1 = with_margin(top, bottom, picture.height, spec.height)
    part = picture.crop((x0, y0, x1, y1))
    part = part.resize((spec.width, part.height), resample, (left - x0, 0, right - x0, part.height))
    return part.resize((spec.width, spec.height), resample, (0, top - y0, spec.width, bottom - y0))


def with_margin(start: float, stop: float, whole: int, target: int) -> tuple[int, int]:
    """The pixels that resampling [start, stop) to ``target`` reads; bicubic reaches 2 of the larger ones."""
    margin = math.ceil(2 * max(1.0, (stop - start) / target)) + 1
    return max(0, math.floor(start) - margin), min(whole, math.ceil(stop) + margin)


def kept_box(size: tuple[int, int], spec: PreprocessSpec) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is kept of a picture of (width, height) in mode ``shortest``."""
    width, height = resized_size(size, spec)
    left, top = round((width - spec.width) / 2.0), round((height - spec.height) / 2.0)
    across, down = size[0] / width, size[1] / height
    right, bottom = (left + spec.width) * across, (top + spec.height) * down
    return left * across, top * down, min(right, size[0]), min(bottom, size[1])


def resized_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """(width, height) before cropping or padding, with torchvision's and open_clip's rounding."""
    width, height = size
    if spec.resize_mode == "shortest" and spec.height == spec.width:
        # torchvision's Resize(int): the longer side is truncated, not rounded.
        if width <= height:
            return spec.width, int(spec.width * height / width)
        return int(spec.height * width / height), spec.height
    ratios = (height / spec.height, width / spec.width)
    ratio = max(ratios) if spec.resize_mode == "longest" else min(ratios)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def centred(picture: Image.Image, spec: PreprocessSpec) -> Image.Image:
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
