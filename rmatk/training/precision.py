"""The number format of matrix products in training. Weights, losses and kept activations stay in float32.

On a CPU without AMX, bfloat16 is emulated or at best as fast: 1.3 to 6 times slower where it was measured.
"""

from __future__ import annotations

from typing import Literal, cast

import torch

from rmatk_runtime.errors import BackboneError

Precision = Literal["fp32", "bf16", "fp16"]


def resolved(precision: str, device: torch.device) -> Precision:
    """What ``auto`` means on a device: on a GPU bf16, or fp16 where it has none; on a CPU with AMX bf16.

    Raises:
        BackboneError: fp16 on a CPU, where gradients cannot be scaled against underflow.
    """
    if precision == "fp16" and device.type == "cpu":
        raise BackboneError("--precision fp16 needs a GPU", "use --precision fp32 or bf16")
    if precision != "auto":
        return cast(Precision, precision)
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)  # torch has no public question for it
    return "bf16" if device.type == "cpu" and amx() else "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in ``precision``."""
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=precision != "fp32")
