"""Imports torchvision with a torch build that lacks its compiled operators.

Why this exists: torchvision's wheels register ``torchvision::nms`` and relatives from a C library. Where that
library was built for CUDA and torch is a CPU build, the library cannot be loaded, the operators stay
undefined, and ``import torchvision`` dies while it registers their *fake* (shape-only) kernels: ``operator
torchvision::nms does not exist``, and after that the same for ``qnms``. open_clip and timm import torchvision
for its image transforms alone, which need none of these operators.

So, and only on exactly that failure, the missing operators get their *schemas* (no kernels: calling one still
fails loudly) and the import is tried again. Every other failure is passed on unchanged.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["NMS_SCHEMAS", "import_torchvision", "is_missing_nms"]

NMS_SCHEMAS: tuple[str, ...] = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A torch.library.Library withdraws its definitions when it is collected: it has to outlive this call.
_kept_alive: list[Any] = []


def is_missing_nms(error: BaseException) -> bool:
    """True for exactly the failure that :func:`import_torchvision` mends."""
    return isinstance(error, RuntimeError) and "operator torchvision::nms does not exist" in str(error)


def import_torchvision() -> ModuleType:
    """Import torchvision and return it, defining the two missing operator schemas if, and only if, they
    are missing.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if not is_missing_nms(error):
            raise
    _forget_torchvision()
    _define_schemas()
    return importlib.import_module("torchvision")


def _forget_torchvision() -> None:
    """Drop half-imported torchvision modules: a second import would otherwise find and trust them."""
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


def _define_schemas() -> None:
    """Give ``torchvision::nms`` and ``qnms`` their schemas, once per process."""
    if _kept_alive:
        return
    import torch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in NMS_SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _kept_alive.append(library)
