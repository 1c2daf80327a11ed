"""Reads parameters of PyTorch modules as arrays; shared by all readers."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmatk_export.weights import Activation, Linear, Norm
from rmatk_runtime.arrays import Array
from rmatk_runtime.errors import ExportError


def as_array(tensor: Any) -> Array:
    """A parameter as a contiguous array; float64 stays, every other type becomes float32."""
    array = tensor.detach().cpu()
    array = array if str(array.dtype) == "torch.float64" else array.float()
    return np.ascontiguousarray(array.numpy())


def as_norm(module: Any) -> Norm:
    """A LayerNorm.

    Raises:
        ExportError: another kind of norm.
    """
    if getattr(module, "bias", None) is None or not hasattr(module, "normalized_shape"):
        raise unsupported("norm", module)
    return Norm(as_array(module.weight), as_array(module.bias), float(module.eps))


def as_linear(module: Any) -> Linear:
    """A linear layer in ``x @ W`` orientation; a missing bias becomes zeros."""
    weight = as_array(module.weight).T
    bias = np.zeros(weight.shape[1], weight.dtype) if module.bias is None else as_array(module.bias)
    return Linear(weight, bias)


def activation(module: Any) -> Activation:
    """The activation's name.

    Raises:
        ExportError: one that is not covered.
    """
    name, approximate = type(module).__name__, getattr(module, "approximate", "none")
    if name == "QuickGELU":
        return "quick_gelu"
    if name == "GELUTanh" or (name == "GELU" and approximate == "tanh"):
        return "gelu_tanh"
    if name == "GELU" and approximate == "none":
        return "gelu"
    raise unsupported("activation", module)


def unsupported(what: str, module: Any) -> ExportError:
    """An error that names the module's class."""
    return ExportError(
        f"the {what} {type(module).__name__} is not covered",
        "towers of open_clip's residual attention blocks or of timm's vision transformers can be exported, "
        "for example ViT-B-16 or ViT-B-16-SigLIP2",
    )
