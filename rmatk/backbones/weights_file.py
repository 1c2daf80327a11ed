"""Local files of weights that hold more than weights: recognised, and refused with what converts them.

OpenAI's own ``ViT-B-16.pt`` is a TorchScript archive, a program with its weights; others are whole pickled
models. Reading either runs code from the file, which rmatk never does.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from rmatk_runtime.errors import BackboneError, command

_SAVE = (
    "import sys, torch; from safetensors.torch import save_file; "
    "s = {load}(sys.argv[1], map_location='cpu'{options}); "
    "s = s.state_dict() if hasattr(s, 'state_dict') else s; "
    "save_file({{k: v.float().contiguous() for k, v in s.items() "
    "if k not in ('input_resolution', 'context_length', 'vocab_size')}}, sys.argv[2])"
)


def check_weights_file(model: str, path: Path) -> None:
    """Refuse a TorchScript archive.

    Raises:
        BackboneError: with the command that converts it.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        openai = (
            "" if model.endswith("-quickgelu") else f", and with OpenAI's weights --model {model}-quickgelu"
        )
        raise BackboneError(
            f"{path} is a TorchScript archive, a program with its weights, which rmatk does not run",
            f"if you trust it, convert it once: {_conversion(path, 'torch.jit.load', '')}; "
            f"then --pretrained {path.with_suffix('.safetensors')}{openai}",
        )


def not_only_weights(path: Path) -> BackboneError:
    """The error for a pickle that holds objects other than tensors."""
    return BackboneError(
        f"{path} holds Python objects besides weights; reading them would run code from the file",
        "if you trust it, convert it once: "
        f"{_conversion(path, 'torch.load', ', weights_only=False')}; "
        f"then --pretrained {path.with_suffix('.safetensors')}",
    )


def _conversion(path: Path, load: str, options: str) -> str:
    code = _SAVE.format(load=load, options=options)
    return command("python", "-c", code, path, path.with_suffix(".safetensors"))
