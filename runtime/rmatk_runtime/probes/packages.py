"""Python packages: which of each extra are there. None is imported, so torch costs nothing here."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata

from rmatk_runtime.probes import Probe

# extra -> distribution -> module; a test holds this against pyproject.toml
EXTRAS = {
    "cpu": {"onnxruntime": "onnxruntime"},
    "gpu": {"onnxruntime-gpu": "onnxruntime"},
    "trt": {"tensorrt": "tensorrt", "cuda-bindings": "cuda.bindings"},
    "rtx": {"tensorrt-rtx": "tensorrt_rtx", "cuda-bindings": "cuda.bindings"},
    "camera": {"av": "av"},
    "labels": {"ftfy": "ftfy", "tokenizers": "tokenizers"},
    "web": {"starlette": "starlette", "uvicorn": "uvicorn"},
    "train": {
        "torch": "torch",
        "torchvision": "torchvision",
        "open_clip_torch": "open_clip",
        "safetensors": "safetensors",
        "tokenizers": "tokenizers",
    },
    "tensorboard": {"tensorboard": "tensorboard"},
    "export": {"onnx": "onnx", "safetensors": "safetensors", "tokenizers": "tokenizers"},
}

_ON_JETSON = {
    "gpu": "install NVIDIA's onnxruntime-gpu wheel for this JetPack: the general one has no CUDA for Jetson",
    "trt": "sudo apt-get install python3-libnvinfer, and make the venv with --system-site-packages",
    "rtx": "TensorRT for RTX is for desktop GPUs; on a Jetson TensorRT itself comes with JetPack",
    "train": "train on another machine and copy the bundle, or install NVIDIA's torch wheel for this JetPack",
}

_TENSORRT = re.compile(r"tensorrt(?:[-_](?:lean|dispatch))?(?:[-_]cu\d+)?", re.IGNORECASE)


def probe_extras(*, jetson: bool) -> list[Probe]:
    """One probe per extra, listing each of its packages with version or what is wrong with it."""
    return [_probe_extra(extra, packages, jetson=jetson) for extra, packages in EXTRAS.items()]


def _probe_extra(extra: str, packages: dict[str, str], *, jetson: bool) -> Probe:
    found = {name: _state(name, module) for name, module in packages.items()}
    ok = all(version is not None for version, _ in found.values())
    text = ", ".join(f"{name} {version or problem}" for name, (version, problem) in found.items())
    return Probe(f"extra {extra}", ok, text, install_hint(extra, jetson=jetson))


def install_hint(extra: str, *, jetson: bool) -> str:
    """How an extra is installed on this platform."""
    install = f"pip install 'rmatk[{extra}]'"
    return _ON_JETSON.get(extra, install) if jetson else install


def _state(distribution: str, module: str) -> tuple[str | None, str]:
    """(version or None, what is wrong)."""
    version = installed_version(distribution)
    if version is None:
        return None, "is not installed"
    return (version, "") if _has_module(module) else (None, f"{version} is listed but its files are gone")


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # its parent is missing, or half-initialised
        return False


def probe_onnxruntime_clash() -> Probe:
    """onnxruntime and onnxruntime-gpu share one folder: the one installed later overwrites the other."""
    both = {name: installed_version(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    there = [f"{name} {version}" for name, version in both.items() if version]
    if len(there) == 2:
        return Probe(
            "onnxruntime packages",
            False,
            f"{' and '.join(there)} are both installed and overwrite each other's files",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install one: pip install 'rmatk[gpu]'",
        )
    if not there:
        return Probe(
            "onnxruntime packages", False, "neither is installed", "pip install 'rmatk[cpu]' or 'rmatk[gpu]'"
        )
    return Probe("onnxruntime packages", True, f"{there[0]} alone")


def tensorrt_packages() -> dict[str, str]:
    """Installed TensorRT distributions and their versions: full, lean or dispatch, for whichever CUDA."""
    named = ((found.metadata["Name"] or "", found.version) for found in metadata.distributions())
    return {name: version for name, version in named if _TENSORRT.fullmatch(name)}
