"""TensorRT's Python module of either flavour, and what the installed version supports.

Between 8.6 and 11 flags were removed and integers moved (``STRONGLY_TYPED`` 1 -> 0, ``VERSION_COMPATIBLE``
13 -> 12), so everything is looked up by name in the module at hand, and never by a number or a version.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from rmatk_runtime.errors import BackendError, MissingExtraError
from rmatk_runtime.platform import install_hint, jetson_model
from rmatk_runtime.tensorrt.key import TITLES, Flavour

FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt_rtx")
_EXTRAS: dict[Flavour, str] = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}


@dataclass(frozen=True)
class TensorRt:
    """A loaded ``module``, its ``flavour`` and ``version``."""

    module: Any
    flavour: Flavour
    version: str

    @property
    def title(self) -> str:
        """``TensorRT 10.3.0``."""
        return f"{TITLES[self.flavour]} {self.version}"

    def member(self, enum: str, name: str) -> Any | None:
        """``module.ENUM.NAME``, or None where this version lacks either."""
        return getattr(getattr(self.module, enum, None), name, None)


def load_tensorrt(flavour: Flavour | Literal["auto"] = "auto") -> TensorRt:
    """Import TensorRT; ``auto`` takes TensorRT itself where it is installed, else TensorRT for RTX.

    Raises:
        MissingExtraError: not installed; the hint is how to install it on this platform.
        BackendError: installed, and cannot be loaded.
    """
    wanted = FLAVOURS if flavour == "auto" else (flavour,)
    for name in wanted:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise BackendError(f"{TITLES[name]} cannot be loaded: {error}", "rmatk doctor") from error
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendError(f"{TITLES[name]} cannot be loaded: {error}", "rmatk doctor") from error
        else:
            return TensorRt(module, name, str(module.__version__))
    title, extra = TITLES[wanted[0]], _EXTRAS[wanted[0]]
    raise MissingExtraError(title, extra, install_hint(extra, jetson=jetson_model() is not None))


def installed_versions() -> dict[Flavour, str]:
    """The flavours that load here, and their versions."""
    found: dict[Flavour, str] = {}
    for flavour in FLAVOURS:
        try:
            found[flavour] = load_tensorrt(flavour).version
        except (MissingExtraError, BackendError):  # a plan of it is then refused with that reason
            continue
    return found
