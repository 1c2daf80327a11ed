"""The machine: Python, platform, Jetson release, memory, disk."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from pathlib import Path

from rmatk_runtime.probes import Probe

_GIB = 1 << 30
_JETPACK = {32: "4", 34: "5", 35: "5", 36: "6", 38: "7"}  # by major release of Jetson Linux (L4T)


def jetson_model(root: Path = Path("/")) -> str | None:
    """The board's name from the device tree, or None on other machines (also right inside a container)."""
    try:
        text = (root / "proc/device-tree/model").read_text(errors="replace")
    except OSError:
        text = ""
    model = text.strip("\0\n ")
    if "jetson" in model.lower():
        return model
    return "NVIDIA Jetson" if (root / "etc/nv_tegra_release").exists() else None


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
    return Probe("platform", True, f"{name}, {model}, {_release(root)}")


def _release(root: Path) -> str:
    """``L4T 36.4.3 (JetPack 6)``, from the line ``# R36 (release), REVISION: 4.3, ...``."""
    try:
        text = (root / "etc/nv_tegra_release").read_text(errors="replace")
    except OSError:
        return "L4T release unknown (no /etc/nv_tegra_release; mount it into the container to see it)"
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if match is None:
        return "L4T release unknown (/etc/nv_tegra_release has another form)"
    jetpack = _JETPACK.get(int(match[1]), "unknown")
    return f"L4T {match[1]}.{match[2]} (JetPack {jetpack})"


def probe_memory(meminfo: Path = Path("/proc/meminfo")) -> Probe:
    """Available memory; building a TensorRT engine wants some gigabytes, running a bundle less than one."""
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
