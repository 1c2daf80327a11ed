"""From a handful of photos to a classifier on a small device: train, evaluate, export, check, run.

>>> import rmatk
>>> with rmatk.Classifier.open("bundle") as classifier:
...     (prediction,) = classifier.classify(["photo.png"])
>>> prediction.label
'red stripe'

Names are imported when they are first used, so that ``import rmatk`` is fast, needs no extra, and never loads
torch: only :func:`train`, :func:`evaluate`, :func:`export`, and :func:`check_parity` against a run do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rmatk_runtime import __version__

if TYPE_CHECKING:
    from rmatk.api import check_parity, evaluate, export, train
    from rmatk.config import Execution, ExportConfig, TrainConfig
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.engines import build_engines
    from rmatk_runtime.errors import (
        BackboneError,
        BackendError,
        BundleError,
        ConfigError,
        DataError,
        ExportError,
        LabelError,
        MissingExtraError,
        ParityError,
        RmatkError,
        RunError,
        SinkError,
        SourceError,
        StorageError,
        TrustError,
    )
    from rmatk_runtime.inference.classifier import Classifier
    from rmatk_runtime.inference.config import InferConfig
    from rmatk_runtime.sources.options import SourceOptions
    from rmatk_runtime.tensorrt.options import BuildOptions

__all__ = [
    "BackboneError",
    "BackendError",
    "BuildOptions",
    "Bundle",
    "BundleError",
    "Classifier",
    "ConfigError",
    "DataError",
    "Execution",
    "ExportConfig",
    "ExportError",
    "InferConfig",
    "LabelError",
    "MissingExtraError",
    "ParityError",
    "RmatkError",
    "RunError",
    "SinkError",
    "SourceError",
    "SourceOptions",
    "StorageError",
    "TrainConfig",
    "TrustError",
    "__version__",
    "build_engines",
    "check_parity",
    "evaluate",
    "export",
    "train",
]

_MODULES = {
    "BuildOptions": "rmatk_runtime.tensorrt.options",
    "Bundle": "rmatk_runtime.bundle",
    "Classifier": "rmatk_runtime.inference.classifier",
    "Execution": "rmatk.config",
    "ExportConfig": "rmatk.config",
    "InferConfig": "rmatk_runtime.inference.config",
    "SourceOptions": "rmatk_runtime.sources.options",
    "TrainConfig": "rmatk.config",
    "build_engines": "rmatk_runtime.engines",
    "check_parity": "rmatk.api",
    "evaluate": "rmatk.api",
    "export": "rmatk.api",
    "train": "rmatk.api",
}
"""Where each name is defined; errors are in ``rmatk_runtime.errors``."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES.get(name, "rmatk_runtime.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
