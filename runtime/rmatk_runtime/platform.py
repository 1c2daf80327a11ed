"""The platform: whether this is a Jetson, and how an extra is installed here."""

from __future__ import annotations

import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
CSI_NEEDS_JETSON = "CSI cameras are for Jetson boards"
"""What to say of ``csi://`` where :func:`jetson_model` finds none."""

_ON_JETSON = {
    "gpu": "install NVIDIA's onnxruntime-gpu wheel for this JetPack: docs/JETSON.md",
    "trt": "sudo apt-get install python3-libnvinfer, and make the venv with --system-site-packages",
    "rtx": "TensorRT for RTX is for desktop GPUs; on a Jetson TensorRT itself comes with JetPack",
    "train": "train on another machine and copy the bundle here",
}


def jetson_model(root: Path = Path("/")) -> str | None:
    """The board's name from the device tree, or None on other machines (also right inside a container)."""
    model = read_text(root / "proc/device-tree/model").strip("\0\n ")
    if "jetson" in model.lower():
        return model
    return "NVIDIA Jetson" if (root / "etc/nv_tegra_release").exists() else None


def install_hint(extra: str, *, jetson: bool) -> str:
    """How an extra is installed on this platform."""
    install = f"pip install 'rmatk[{extra}]'"
    return _ON_JETSON.get(extra, install) if jetson else install


def read_text(path: Path) -> str:
    """A file's text, or nothing where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def usable_cores() -> int:
    """How many cores the CPU mask of this process allows (taskset, CPUAffinity, cpuset); siblings are one."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return len({_core(cpu) for cpu in cpus})


def _core(cpu: int) -> str:
    """What tells the core of a logical CPU; where the kernel does not say, each is its own."""
    try:
        return (_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)
