"""A CLIP that comes with the package: configuration, weights and tokenizer are files of one folder.

Importing this module imports neither torch nor open_clip.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from open_clip import CLIP
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Embedded:
    """``name`` as ``--model`` takes it; the ``folder`` of its files; ``register`` makes a trunk known to timm
    that timm does not have."""

    name: str
    folder: Path
    register: Callable[[], None] | None = None

    @property
    def weights_path(self) -> Path:
        """safetensors; matrices in float16."""
        return self.folder / "weights.safetensors"

    @property
    def tokenizer_path(self) -> Path:
        """A Hugging Face ``tokenizer.json``."""
        return self.folder / "tokenizer.json"

    @property
    def card_path(self) -> Path:
        """What the model was made of, and what it can and cannot do."""
        return self.folder / "MODEL_CARD.md"

    def config(self) -> dict[str, Any]:
        """open_clip's model config: ``embed_dim``, ``vision_cfg``, ``text_cfg``, ``preprocess_cfg``."""
        loaded: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return loaded

    def build(self) -> CLIP:
        """The architecture with random weights, drawn from torch's global generator as open_clip does."""
        from rmatk.backbones.torchvision_ops import import_torchvision

        import_torchvision()
        from open_clip import CLIP

        if self.register is not None:
            self.register()
        cfg = self.config()
        return CLIP(embed_dim=cfg["embed_dim"], vision_cfg=cfg["vision_cfg"], text_cfg=cfg["text_cfg"])

    def load(self) -> CLIP:
        """The pretrained model: evaluation mode, float32, on the CPU."""
        from safetensors.torch import load_file

        model = self.build()
        state = load_file(self.weights_path)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        return model.eval()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its byte-level BPE: lower-cases, adds start and end tokens, pads with 0 and cuts to the context
        length.
        """
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.tokenizer_path))

    def tokenize(self, texts: str | Sequence[str]) -> torch.Tensor:
        """Texts to token ids: (N, context_length) int64. A text too long keeps its end token."""
        import torch

        batch = [texts] if isinstance(texts, str) else list(texts)
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(batch)])
