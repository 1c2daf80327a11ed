"""rmatk-micro: the tiny CLIP that comes with the package, so that everything runs offline.

A real open_clip model (ViT and causal text transformer made of residual attention blocks), pretrained by
``tools/pretrain_micro.py`` on procedurally rendered scenes (rmatk.scenes). See MODEL_CARD.md for what it can
and cannot do; for real work use a CLIP trained on photographs. Importing this module imports neither torch
nor open_clip.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from open_clip import CLIP
    from tokenizers import Tokenizer

__all__ = [
    "CONFIG_PATH",
    "NAME",
    "TOKENIZER_PATH",
    "WEIGHTS_PATH",
    "build",
    "config",
    "load",
    "tokenize",
    "tokenizer",
]

NAME = "rmatk-micro"

_HERE = Path(__file__).resolve().parent
CONFIG_PATH = _HERE / "config.json"
TOKENIZER_PATH = _HERE / "tokenizer.json"
WEIGHTS_PATH = _HERE / "weights.safetensors"


def config() -> dict[str, Any]:
    """open_clip's model config: ``embed_dim``, ``vision_cfg``, ``text_cfg``, ``preprocess_cfg``."""
    loaded: dict[str, Any] = json.loads(CONFIG_PATH.read_text(encoding="utf-8"))
    return loaded


def build() -> CLIP:
    """The architecture with random weights, drawn from torch's global generator as open_clip does."""
    from rmatk.backbones.torchvision_ops import import_torchvision

    import_torchvision()
    from open_clip import CLIP

    cfg = config()
    return CLIP(embed_dim=cfg["embed_dim"], vision_cfg=cfg["vision_cfg"], text_cfg=cfg["text_cfg"])


def load() -> CLIP:
    """The pretrained model: evaluation mode, float32 (stored as float16), on the CPU."""
    from safetensors.torch import load_file

    model = build()
    state = {name: tensor.float() for name, tensor in load_file(WEIGHTS_PATH).items()}
    model.load_state_dict(state, strict=True)
    return model.eval()


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """Its byte-level BPE: lower-cases, adds start and end tokens, pads with 0 and cuts to the context
    length.
    """
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TOKENIZER_PATH))


def tokenize(texts: str | Sequence[str]) -> torch.Tensor:
    """Texts to token ids: (N, context_length) int64. A text too long keeps its end token."""
    import torch

    batch = [texts] if isinstance(texts, str) else list(texts)
    return torch.tensor([encoding.ids for encoding in tokenizer().encode_batch(batch)], dtype=torch.int64)
