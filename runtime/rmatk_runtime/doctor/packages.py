"""Which packages of each extra are installed; none is imported, so torch costs nothing here."""

from __future__ import annotations

import importlib.util
from importlib import metadata

from rmatk_runtime import platform
from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.errors import MissingExtraError
from rmatk_runtime.platform import install_hint

# extra -> distribution -> module; a test holds this against pyproject.toml
EXTRAS = {
    "cpu": {"onnxruntime": "onnxruntime"},
    "gpu": {"onnxruntime-gpu": "onnxruntime"},
    "trt": {"tensorrt": "tensorrt", "cuda-bindings": "cuda.bindings"},
    "rtx": {"tensorrt-rtx": "tensorrt_rtx", "cuda-bindings": "cuda.bindings"},
    "camera": {"av": "av"},
    "heic": {"pillow-heif": "pillow_heif"},
    "fast": {"cykooz-resizer": "cykooz_resizer"},
    "mqtt": {"paho-mqtt": "paho.mqtt"},
    "labels": {"ftfy": "ftfy", "tokenizers": "tokenizers"},
    "sign": {"cryptography": "cryptography"},
    "web": {
        "starlette": "starlette",
        "uvicorn": "uvicorn",
        "python-multipart": "python_multipart",
        "prometheus-client": "prometheus_client",
    },
    "train": {
        "torch": "torch",
        "torchvision": "torchvision",
        "open_clip_torch": "open_clip",
        "safetensors": "safetensors",
        "tokenizers": "tokenizers",
    },
    "siglip": {"transformers": "transformers"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "export": {"onnx": "onnx", "safetensors": "safetensors", "tokenizers": "tokenizers"},
}

_TRIED_ELSEWHERE = {"cpu", "gpu", "trt", "rtx", "camera"}  # other probes say that these work, not only exist


def probe_extras(*, jetson: bool) -> list[Probe]:
    """One probe per extra that no other probe tries out, listing its packages by what is wrong with them."""
    return [
        _probe_extra(extra, packages, jetson=jetson)
        for extra, packages in EXTRAS.items()
        if extra not in _TRIED_ELSEWHERE
    ]


def _probe_extra(extra: str, packages: dict[str, str], *, jetson: bool) -> Probe:
    versions = {name: installed_version(name) for name in packages}
    absent = [name for name, version in versions.items() if version is None]
    there = {name: version for name, version in versions.items() if version}
    hollow = [name for name in there if not _has_module(packages[name])]
    text = ", ".join(f"{name} {version}" for name, version in there.items())
    if hollow:
        text += f"; listed, but their files are gone: {', '.join(hollow)}"
    if absent:
        text = f"{text}; not installed: {', '.join(absent)}".removeprefix("; ")
    hint = install_hint(extra, jetson=jetson)
    if hollow:
        hint = f"pip install --force-reinstall {' '.join(hollow)}"
    return Probe(extra, not (absent or hollow), text, hint, optional=not hollow)


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error that names the extra of a module that cannot be imported; None if it belongs to none."""
    module = (error.name or "").split(".")[0]
    for extra, packages in EXTRAS.items():
        if module in {name.split(".")[0] for name in packages.values()}:
            return MissingExtraError(
                module, extra, install_hint(extra, jetson=platform.jetson_model() is not None)
            )
    return None


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # its parent is missing, or half-initialised
        return False
