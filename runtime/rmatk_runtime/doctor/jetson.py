"""Probes of a Jetson: board, Jetson Linux and JetPack, swap on ZRAM, power mode, clocks.

All of it is read from files, without root and without NVIDIA's tools, so it also works in a container that
has the files mounted, and in tests on a folder that looks like a Jetson.
"""

from __future__ import annotations

import re
from pathlib import Path

from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.platform import read_text

_JETPACK = {32: "4", 34: "5", 35: "5", 36: "6", 38: "7"}  # by major release of Jetson Linux (L4T)
_GPU = re.compile(r"gpu|g[apv]\d+b")  # devfreq's names: 17000000.gpu, 17000000.ga10b, 17000000.gv11b


def jetson_release(root: Path = Path("/")) -> str:
    """``L4T 36.4.3, JetPack 6.2``: the installed package's version, else the family that L4T is of."""
    text = read_text(root / "etc/nv_tegra_release")
    if not text:
        return "L4T release unknown (no /etc/nv_tegra_release; mount it into the container to see it)"
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if match is None:
        return "L4T release unknown (/etc/nv_tegra_release has another form)"
    jetpack = (
        _jetpack_package(root) or f"{_JETPACK.get(int(match[1]), 'unknown')} (no package nvidia-jetpack)"
    )
    return f"L4T {match[1]}.{match[2]}, JetPack {jetpack}"


def _jetpack_package(root: Path) -> str | None:
    """Version of the installed Debian package nvidia-jetpack, without its build number."""
    for entry in read_text(root / "var/lib/dpkg/status").split("\n\n"):
        if entry.startswith("Package: nvidia-jetpack\n") and "\nStatus: install ok installed\n" in entry:
            match = re.search(r"^Version: ([\d.]+)", entry, flags=re.MULTILINE)
            return match[1] if match else None
    return None


def probe_swap(root: Path = Path("/")) -> Probe:
    """Swap: a file or disk lets an engine build on a board with 8 GB, ZRAM takes memory away from it.

    NVIDIA-AI-IOT/tensorrt_demos #293, NVIDIA/retinanet-examples #144.
    """
    areas = [line.split() for line in read_text(root / "proc/swaps").splitlines()[1:]]
    zram = [area[0] for area in areas if "zram" in area[0]]
    text = ", ".join(f"{area[0]} {int(area[2]) / (1 << 20):.1f} GiB" for area in areas) or "none"
    if zram and len(zram) == len(areas):
        cure = "sudo systemctl disable --now nvzramconfig, then add a swap file: docs/JETSON.md"
        return Probe("swap", False, f"{text}: all of it in memory, which engine builds need", cure, True)
    cure = "add a swap file before building engines: docs/JETSON.md"
    return Probe("swap", bool(areas), text, cure, optional=True)


def probe_power_mode(root: Path = Path("/")) -> Probe:
    """The mode that ``nvpmodel`` set, against the board's fastest.

    Ids say nothing about speed (on an Orin Nano Super 15W is 0, MAXN_SUPER is 2 and 7W is 3): names do.
    """
    modes = dict(re.findall(r"^<\s*POWER_MODEL ID=(\d+) NAME=(\w+)\s*>", _nvpmodel_conf(root), re.MULTILINE))
    active = re.search(r"pmode:0*(\d+)", read_text(root / "var/lib/nvpmodel/status"))
    if active is None:
        return Probe(
            "power mode", True, "unknown (/var/lib/nvpmodel/status cannot be read): sudo nvpmodel -q"
        )
    name = modes.get(active[1], "name unknown")
    fastest = [number for number, other in modes.items() if other.startswith("MAXN")]
    text = f"{name} (mode {active[1]}) of {', '.join(modes.values()) or 'unknown ones'}"
    cure = f"sudo nvpmodel -m {fastest[-1]}" if fastest else None
    return Probe("power mode", not fastest or name.startswith("MAXN"), text, cure, optional=True)


def _nvpmodel_conf(root: Path) -> str:
    return read_text(root / "etc/nvpmodel.conf")


def probe_clocks(root: Path = Path("/")) -> Probe:
    """Whether the GPU's clock is held (``jetson_clocks``) or scales with load, which blurs benchmarks."""
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        least, most = (read_text(device / name).strip() for name in ("min_freq", "max_freq"))
        if _GPU.search(device.name) and least.isdigit() and most.isdigit():
            low, high = int(least) // 1_000_000, int(most) // 1_000_000
            if low == high:
                return Probe("clocks", True, f"GPU held at {high} MHz")
            text = f"GPU scales from {low} to {high} MHz with load"
            return Probe("clocks", False, text, "before benchmarks: sudo jetson_clocks", optional=True)
    return Probe("clocks", True, "unknown (no GPU under /sys/class/devfreq): sudo jetson_clocks --show")
