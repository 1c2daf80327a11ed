"""rmatk-micro: the tiniest CLIP that comes with the package, for tests and for trying things out quickly.

A real open_clip model (ViT and causal text transformer made of residual attention blocks), pretrained by
``tools/pretrain_micro.py`` on procedurally rendered scenes (rmatk.scenes). See MODEL_CARD.md for what it can
and cannot do.
"""

from pathlib import Path

from rmatk.backbones.embedded import Embedded

MODEL = Embedded("rmatk-micro", Path(__file__).resolve().parent)
