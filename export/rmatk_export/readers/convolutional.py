"""Reading timm's EfficientNet-Lite as the stem of a transformer (timm's ``HybridEmbed``) into plain arrays.

Batch normalisation is folded into the convolution before it, in float64; TensorFlow's "same" padding, which
depends on the image's size, becomes numbers. Only attributes are read: no import of timm or torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmatk_export.readers.common import as_array, unsupported
from rmatk_export.weights import ConvBlock, Convolution

_IDENTITY = "Identity"
_PARTS = {
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


def read_stem(backbone: Any, image_size: tuple[int, int]) -> tuple[ConvBlock, ...]:
    """The blocks of an EfficientNet without attention, first convolution and last one included.

    Args:
        backbone: timm's ``EfficientNet`` with neither pooling nor classifier.
        image_size: (H, W) pixels that it is given.

    Raises:
        ExportError: a part that is not covered, by name.
    """
    if type(backbone).__name__ != "EfficientNet" or type(backbone.classifier).__name__ != _IDENTITY:
        raise unsupported("convolutional stem", backbone)
    if getattr(backbone.global_pool, "pool_type", None):
        raise unsupported("pooled convolutional stem", backbone)
    size = image_size
    blocks = []
    first, size = _layer(backbone.conv_stem, backbone.bn1, size)
    blocks.append(ConvBlock((first,), residual=False))
    for stage in backbone.blocks:
        for block in stage:
            layers = []
            for conv, norm in _parts(block):
                layer, size = _layer(conv, norm, size)
                layers.append(layer)
            blocks.append(ConvBlock(tuple(layers), residual=bool(block.has_skip)))
    last, size = _layer(backbone.conv_head, backbone.bn2, size)
    return (*blocks, ConvBlock((last,), residual=False))


def _parts(block: Any) -> list[tuple[Any, Any]]:
    """A block's convolutions, each with its batch normalisation."""
    names = _PARTS.get(type(block).__name__)
    extra = (getattr(block, "se", None), getattr(block, "aa", None))
    if names is None or any(part is not None and type(part).__name__ != _IDENTITY for part in extra):
        raise unsupported("convolutional block", block)
    return [(getattr(block, conv), getattr(block, norm)) for conv, norm in names]


def _layer(conv: Any, norm: Any, size: tuple[int, int]) -> tuple[Convolution, tuple[int, int]]:
    """A convolution with its normalisation and activation, and the size (H, W) of what it gives."""
    act = type(norm.act).__name__
    if type(norm).__name__ != "BatchNormAct2d" or act not in ("ReLU6", _IDENTITY) or conv.bias is not None:
        raise unsupported("convolution with", norm)
    if tuple(conv.dilation) != (1, 1) or type(norm.drop).__name__ != _IDENTITY:
        raise unsupported("convolution", conv)
    weight = as_array(conv.weight)
    scale = as_array(norm.weight).astype(np.float64)
    scale = scale / np.sqrt(as_array(norm.running_var).astype(np.float64) + norm.eps)
    bias = as_array(norm.bias) - as_array(norm.running_mean) * scale
    kernel, stride = weight.shape[2:], (int(conv.stride[0]), int(conv.stride[1]))
    pads = _pads(conv, size)
    layer = Convolution(
        weight=(weight * scale[:, None, None, None]).astype(weight.dtype),
        bias=bias.astype(weight.dtype),
        stride=stride,
        pads=pads,
        groups=int(conv.groups),
        clip=6.0 if act == "ReLU6" else None,
    )
    height, width = (
        (size[axis] + pads[axis] + pads[axis + 2] - kernel[axis]) // stride[axis] + 1 for axis in (0, 1)
    )
    return layer, (height, width)


def _pads(conv: Any, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right); "same" padding puts the odd pixel behind."""
    if type(conv).__name__ == "Conv2d" and not isinstance(conv.padding, str):
        top, left = (int(pad) for pad in conv.padding)
        return top, left, top, left
    if type(conv).__name__ != "Conv2dSame":
        raise unsupported("convolution", conv)
    totals = [
        max((-(-pixels // stride) - 1) * stride + kernel - pixels, 0)
        for pixels, stride, kernel in zip(size, conv.stride, conv.kernel_size, strict=True)
    ]
    top, left = (total // 2 for total in totals)
    return top, left, totals[0] - top, totals[1] - left
