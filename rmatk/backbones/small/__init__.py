"""rmatk-small: the CLIP that comes with the package, so that everything runs offline; it has seen photos.

A real open_clip model: its image tower is timm's vision transformer over a convolutional stem
(EfficientNet-Lite0), its text tower open_clip's causal transformer. Distilled by ``tools/pretrain_small.py``.
See MODEL_CARD.md for what it can and cannot do.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rmatk.backbones.embedded import Embedded

WIDTH, DEPTH, HEADS, MLP_RATIO = 384, 4, 6, 2


def vit_rmatk_small(pretrained: bool = False, **kwargs: Any) -> Any:
    """The image trunk, for timm's registry: four transformer blocks on the 7 x 7 maps of EfficientNet-Lite0.

    Stands in timm's registry under its own name, which config.json gives; takes timm's arguments and needs
    none.
    """
    import timm
    from timm.layers.hybrid_embed import HybridEmbed
    from timm.models.vision_transformer import VisionTransformer

    stem = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="")
    trunk: Any = VisionTransformer(
        img_size=MODEL.config()["vision_cfg"]["image_size"],
        patch_size=1,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=MLP_RATIO,
        class_token=False,
        global_pool="avg",
        num_classes=0,
        embed_layer=partial(HybridEmbed, backbone=stem),
    )
    trunk.default_cfg = {}  # open_clip asks it for a pooling size
    return trunk


def _register() -> None:
    from timm.models import is_model, register_model

    if not is_model(vit_rmatk_small.__name__):
        register_model(vit_rmatk_small)


MODEL = Embedded("rmatk-small", Path(__file__).resolve().parent, _register)
