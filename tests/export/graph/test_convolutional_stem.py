"""A transformer over EfficientNet-Lite: its graph against convolutions and batch norms in NumPy."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk_export.fold import fold
from rmatk_export.graph.checks import checked
from rmatk_export.graph.encoder import image_graph
from rmatk_export.parity.folded import run_image
from rmatk_export.readers.timm import read_timm_tower
from rmatk_runtime.errors import ExportError

SIDE = 72  # 36, 18, 9, 5, 3: even and odd sizes, so that "same" padding pads both ways


@pytest.fixture(scope="module")
def visual() -> Any:
    """Like rmatk-small's image tower, with random weights and statistics, two narrow blocks."""
    import_torchvision()
    import timm
    from timm.layers.hybrid_embed import HybridEmbed
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="")
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.3, 2)
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, std=0.3)
    trunk = VisionTransformer(
        img_size=SIDE,
        patch_size=1,
        embed_dim=48,
        depth=2,
        num_heads=3,
        class_token=False,
        global_pool="avg",
        num_classes=0,
        embed_layer=partial(HybridEmbed, backbone=backbone),
    )
    return SimpleNamespace(trunk=trunk.eval(), head=nn.Sequential(nn.Linear(48, 24, bias=False)))


def layer(x: np.ndarray, conv: nn.Conv2d, norm: Any) -> np.ndarray:
    """Convolution with TensorFlow's "same" padding, batch norm, and ReLU6 where there is one: from the
    formulas, float64."""
    weight = conv.weight.detach().double().numpy()
    kernel, stride = weight.shape[2], conv.stride[0]
    out = -(-x.shape[2] // stride)
    total = max((out - 1) * stride + kernel - x.shape[2], 0)
    pads = (total // 2, total - total // 2)
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), pads, pads)), (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    if conv.groups == 1:
        y = np.einsum("ncijkl,ockl->noij", windows, weight, optimize=True)
    else:
        y = np.einsum("ncijkl,ckl->ncij", windows, weight[:, 0], optimize=True)
    mean, var, gain, shift = (
        value.detach().double().numpy()[:, None, None]
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    y = (y - mean) / np.sqrt(var + norm.eps) * gain + shift
    return np.clip(y, 0, 6) if isinstance(norm.act, nn.ReLU6) else y


def stem(x: np.ndarray, backbone: Any) -> np.ndarray:
    """The whole EfficientNet, (N, 3, H, W) -> (N, 1280, h, w)."""
    x = layer(x, backbone.conv_stem, backbone.bn1)
    for block in (block for stage in backbone.blocks for block in stage):
        given = x
        if hasattr(block, "conv_pwl"):
            x = layer(x, block.conv_pw, block.bn1)
            x = layer(layer(x, block.conv_dw, block.bn2), block.conv_pwl, block.bn3)
        else:
            x = layer(layer(x, block.conv_dw, block.bn1), block.conv_pw, block.bn2)
        x = x + given if given.shape == x.shape else x
    return layer(x, backbone.conv_head, backbone.bn2)


def expected(visual: Any, images: np.ndarray) -> np.ndarray:
    """Embeddings: the stem in NumPy, what follows it by PyTorch, all in float64."""
    trunk = visual.trunk
    maps = torch.from_numpy(stem(images.astype(np.float64), trunk.patch_embed.backbone))
    weights = {name: value.double() for name, value in trunk.state_dict().items()}
    tokens = torch.einsum("nchw,dc->nhwd", maps, weights["patch_embed.proj.weight"][:, :, 0, 0]).flatten(1, 2)
    tokens = tokens + weights["patch_embed.proj.bias"] + weights["pos_embed"]
    trunk.double()
    with torch.no_grad():
        found = nn.functional.normalize(
            nn.functional.linear(trunk.forward_head(trunk.blocks(tokens)), visual.head[0].weight.double()),
            dim=1,
        )
    trunk.float()
    return found.numpy()


# some fifty random layers in a row make 1e-7 into 1e-5, and 1e-4 into 1e-2
@pytest.mark.parametrize(("half", "tolerance"), [(False, 3e-5), (True, 2e-2)])
def test_graph_equals_the_formulas(visual: Any, half: bool, tolerance: float):
    images = np.random.default_rng(0).normal(0, 1, (3, 3, SIDE, SIDE)).astype(np.float32)
    wanted = expected(visual, images)
    assert np.ptp(wanted, axis=0).max() > 3 * tolerance  # the photos give different embeddings
    tower = fold(read_timm_tower(visual))
    graph = checked(image_graph(tower, half=half), tower, "fp16" if half else "fp32")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    np.testing.assert_allclose(run_image(tower, torch.from_numpy(images)), wanted, atol=3e-5)


def test_what_the_reader_does_not_cover_is_refused(visual: Any):
    import timm

    backbone = visual.trunk.patch_embed.backbone
    other = timm.create_model("efficientnet_b0", num_classes=0, global_pool="")  # has squeeze-and-excitation
    visual.trunk.patch_embed.backbone = other
    try:
        with pytest.raises(ExportError, match="BatchNormAct2d"):
            read_timm_tower(visual)
        visual.trunk.patch_embed.backbone = timm.create_model("resnet18")
        with pytest.raises(ExportError, match="ResNet"):
            read_timm_tower(visual)
    finally:
        visual.trunk.patch_embed.backbone = backbone
