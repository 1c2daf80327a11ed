"""Probes of TensorRT and of TensorRT for RTX, which is for desktop GPUs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.errors import BackendError, MissingExtraError
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.platform import install_hint
from rmatk_runtime.tensorrt.library import load_tensorrt
from rmatk_runtime.tensorrt.versions import known_bad

_SYSTEM_PACKAGES = "usr/lib/python3*/dist-packages/tensorrt"  # where apt's python3-libnvinfer puts it


def probe_tensorrt(gpus: Sequence[Gpu], *, jetson: bool, root: Path = Path("/")) -> Probe:
    """The classic TensorRT: whether it loads, and whether its version is known to compute ViTs wrongly."""
    try:
        found = load_tensorrt("tensorrt")
    except MissingExtraError as error:
        if jetson:
            return Probe("tensorrt", False, *_missing_on_jetson(error.message, root))
        return Probe("tensorrt", False, error.message, error.hint, optional=True)
    except BackendError as error:
        return Probe("tensorrt", False, error.message, install_hint("trt", jetson=jetson))
    capabilities: list[str | None] = [gpu.compute_capability for gpu in gpus]
    for capability in capabilities or [None]:
        if row := known_bad(found.version, capability):
            return Probe("tensorrt", False, row.warning(found.version), row.cure)
    return Probe("tensorrt", True, found.title)


def probe_tensorrt_rtx(gpus: Sequence[Gpu], *, jetson: bool) -> Probe:
    """TensorRT for RTX, which builds engines without a GPU too."""
    try:
        found = load_tensorrt("tensorrt_rtx")
    except MissingExtraError as error:
        hint = install_hint("rtx", jetson=jetson)
        return Probe("tensorrt rtx", False, error.message, hint, optional=True)
    except BackendError as error:
        return Probe("tensorrt rtx", False, error.message, install_hint("rtx", jetson=jetson))
    runs = "" if gpus else "; builds engines for other machines, without a GPU it runs none"
    return Probe("tensorrt rtx", True, f"{found.title}{runs}")


def _missing_on_jetson(problem: str, root: Path) -> tuple[str, str]:
    """(reason, cure) on a Jetson, where TensorRT comes with JetPack into the system's Python."""
    isolated = sys.prefix != sys.base_prefix and not _sees_system_packages()
    if isolated and any(root.glob(_SYSTEM_PACKAGES)):
        reason = "JetPack's TensorRT is installed, but this virtual environment does not see system packages"
        return reason, "create it again: python3 -m venv --system-site-packages .venv"
    cure = "sudo apt-get install python3-libnvinfer (never pip install tensorrt on a Jetson)"
    return problem, f"{cure}, and make the venv with --system-site-packages" if isolated else cure


def _sees_system_packages() -> bool:
    """Whether the running virtual environment was made with ``--system-site-packages``."""
    try:
        text = (Path(sys.prefix) / "pyvenv.cfg").read_text()
    except OSError:
        return True
    return "include-system-site-packages = true" in text.lower()
