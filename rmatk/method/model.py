"""A frozen CLIP with adapters beside the upper blocks of both towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmatk.backbones.backbone import Backbone
from rmatk.config import TrainConfig, default_blocks
from rmatk.method.adapter import AdaptedTower, DualBranchAdapter, adapter_params
from rmatk.method.towers import TextTower, image_tower
from rmatk_runtime.errors import BackboneError, RunError

TowerName = Literal["image", "text"]
_PROMPTS_AT_ONCE = 256


class AdaptedClip(nn.Module):
    """Both adapted towers of a backbone. Only the adapters' parameters require a gradient.

    ``logit_scale`` is the frozen exp(t) that multiplies cosines.
    """

    def __init__(self, backbone: Backbone, config: TrainConfig, generator: torch.Generator) -> None:
        """Put fresh adapters beside the blocks that ``config`` names.

        Raises:
            BackboneError: more blocks asked for than a tower has.
        """
        super().__init__()
        self.backbone = backbone
        self.logit_scale = backbone.logit_scale
        image = image_tower(backbone.model.visual)
        text = TextTower(backbone.text, backbone.eos_id)
        self.image = AdaptedTower(
            image,
            adapted=_adapted("--image-blocks", config.image_blocks, len(image.blocks), backbone.name),
            rank=config.rank,
            scale=config.scale,
            generator=generator,
        )
        self.text = AdaptedTower(
            text,
            adapted=_adapted("--text-blocks", config.text_blocks, len(text.blocks), backbone.name),
            rank=config.rank,
            scale=config.scale,
            generator=generator,
        )
        self.to(backbone.device)

    @torch.no_grad()
    def encode_images(self, images: Tensor, *, frozen: bool = False) -> Tensor:
        """Images (N, 3, H, W) float32 normalised -> (N, De), unit length; ``frozen``: CLIP's own."""
        x, lengths = self.image.lower(images.to(self.backbone.device))
        return (self.image.frozen if frozen else self.image.adapted)(x, lengths)

    @torch.no_grad()
    def class_embeddings(
        self, names: Sequence[str], templates: Sequence[str], *, frozen: bool = False
    ) -> Tensor:
        """Class names (C) and prompt templates (T) -> (C, De): the unit-length mean over the templates."""
        tokens = self.tokens(names, templates)
        upper = self.text.frozen if frozen else self.text.adapted
        prompts = torch.cat([upper(*self.text.lower(part)) for part in torch.split(tokens, _PROMPTS_AT_ONCE)])
        return mean_of_templates(prompts, len(templates))

    def tokens(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Prompts of every class, class by class -> (C * T, context) int64."""
        prompts = [template.replace("{}", name) for name in names for template in templates]
        return self.backbone.tokenize(prompts).to(self.backbone.device)

    def adapter_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Every adapter parameter as saved: ``image.blocks.2.down.weight`` (outputs, inputs) and so on."""
        return {name: p.detach().cpu().numpy().copy() for name, p in adapter_params(self).items()}

    def load_adapter_state(self, state: dict[str, npt.NDArray[np.float32]]) -> None:
        """Take over saved adapter parameters.

        Raises:
            RunError: a name or shape that is not this model's.
        """
        own = adapter_params(self)
        expected = {name: tuple(p.shape) for name, p in own.items()}
        found = {name: value.shape for name, value in state.items()}
        if found != expected:
            names = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
            raise RunError(
                f"the adapter's weights do not fit the model: {len(names)} differ, first {names[0]} "
                f"(expected {expected.get(names[0])}, found {found.get(names[0])})",
                "train again with rmatk train",
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(torch.from_numpy(state[name]))

    def adapter_arrays(self, tower: TowerName) -> dict[int, dict[str, npt.NDArray[np.float32]]]:
        """Adapter weights by block index (from 0) for folding, in ``x @ W`` orientation.

        Returns:
            per block ``down_weight`` (D, r), ``down_bias`` (r,), ``up_weight`` (r, D), ``up_bias`` (D,),
            ``rec1_weight`` (r, r), ``rec1_bias`` (r,), ``rec2_weight`` (r, D), ``rec2_bias`` (D,).
        """
        adapted = self.image if tower == "image" else self.text
        arrays = {}
        for index, adapter in adapted.blocks.items():
            layers = cast(DualBranchAdapter, adapter).named_children()
            arrays[int(index)] = {
                f"{name}_{kind}": np.ascontiguousarray(getattr(layer, kind).detach().cpu().numpy().T)
                for name, layer in layers
                for kind in ("weight", "bias")
            }
        return arrays


def mean_of_templates(prompts: Tensor, templates: int) -> Tensor:
    """Prompt features (C * T, De), class by class -> class embeddings (C, De), unit length."""
    return F.normalize(prompts.view(-1, templates, prompts.shape[-1]).mean(dim=1), dim=-1)


def _adapted(flag: str, wanted: int | None, depth: int, name: str) -> int:
    """How many blocks of a tower with ``depth`` blocks are adapted."""
    if wanted is not None and wanted > depth:
        raise BackboneError(
            f"{flag} {wanted}: that tower of {name} has {depth} blocks", f"{flag} {depth} or less"
        )
    return default_blocks(depth) if wanted is None else wanted
