"""Probes of Python, platform, memory and disk."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from pathlib import Path

from rmatk_runtime.doctor.jetson import jetson_release
from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.platform import jetson_model

_GIB = 1 << 30


def probe_python() -> Probe:
    """Python's version against the least that the toolkit runs on."""
    version = f"{platform.python_version()} at {sys.executable}"
    return Probe("python", sys.version_info >= (3, 10), version, "install Python 3.10 or newer")


def probe_platform(root: Path = Path("/")) -> Probe:
    """Machine and, on a Jetson, board and JetPack."""
    name = f"{platform.system()} {platform.machine()}"
    model = jetson_model(root)
    if model is None:
        return Probe("platform", True, f"{name}, not a Jetson")
    return Probe("platform", True, f"{name}, {model}, {jetson_release(root)}")


def probe_memory(root: Path = Path("/")) -> Probe:
    """Available memory; building a TensorRT engine wants some gigabytes, running a bundle less than one."""
    meminfo = root / "proc/meminfo"
    try:
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", meminfo.read_text(), flags=re.MULTILINE))
        total, available = (int(fields[name]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError):
        return Probe("memory", True, f"unknown: {meminfo} cannot be read")
    text = f"{available / _GIB:.1f} GiB of {total / _GIB:.1f} GiB available"
    return Probe("memory", available >= _GIB, text, "close other programs, or add swap")


def probe_disk(folder: Path = Path()) -> Probe:
    """Free space where the command was started."""
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / _GIB:.1f} GiB free in {folder.resolve()}"
    return Probe("disk", usage.free >= _GIB, text, "free some space: engines and videos need it")
