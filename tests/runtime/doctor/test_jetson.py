"""Probes on folders that look like a Jetson: no Jetson is needed, and none was used."""

from __future__ import annotations

from pathlib import Path

import pytest

from rmatk_runtime import platform
from rmatk_runtime.doctor import jetson, system
from rmatk_runtime.doctor.probe import Probe

NVPMODEL = """\
# NAME is what nvpmodel -q prints
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""
DPKG = """\
Package: nvidia-jetpack-runtime
Status: install ok installed
Version: 6.0+b1

Package: nvidia-jetpack
Status: {status}
Architecture: arm64
Version: 6.2.1+b38
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    write(
        tmp_path / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n"
    )
    return tmp_path


def test_jetson_is_recognised_with_its_release(root: Path) -> None:
    assert platform.jetson_model(root / "absent") is None
    assert "not a Jetson" in system.probe_platform(root / "absent").reason
    assert platform.jetson_model(root) == "NVIDIA Jetson Orin Nano Developer Kit"
    assert "L4T 36.4.3, JetPack 6 (no package nvidia-jetpack)" in system.probe_platform(root).reason
    (root / "etc/nv_tegra_release").unlink()  # as inside a container
    assert "L4T release unknown" in system.probe_platform(root).reason


def test_jetpack_is_the_installed_packages(root: Path) -> None:
    status = write(root / "var/lib/dpkg/status", DPKG.format(status="install ok installed"))
    assert jetson.jetson_release(root) == "L4T 36.4.3, JetPack 6.2.1"
    write(status, DPKG.format(status="deinstall ok config-files"))
    assert "JetPack 6 (no package" in jetson.jetson_release(root)


SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ZRAM = "/dev/zram0                              partition\t651788\t\t0\t\t5\n"
FILE = "/var/swapfile                           file\t\t8388604\t\t0\t\t-2\n"


@pytest.mark.parametrize(
    ("areas", "ok", "reason"),
    [
        ("", False, "none"),
        (ZRAM, False, "/dev/zram0 0.6 GiB: all of it in memory"),
        (FILE, True, "/var/swapfile 8.0 GiB"),
        (ZRAM + FILE, True, "/dev/zram0 0.6 GiB, /var/swapfile 8.0 GiB"),
    ],
)
def test_swap_in_memory_is_not_swap(root: Path, areas: str, ok: bool, reason: str) -> None:
    write(root / "proc/swaps", SWAPS + areas)
    probe = jetson.probe_swap(root)
    assert probe.ok is ok and probe.reason.startswith(reason)
    assert ok or "docs/JETSON.md" in str(probe.hint)
    assert ("nvzramconfig" in str(probe.hint)) is (areas == ZRAM)


def test_power_mode_is_judged_by_its_name(root: Path) -> None:
    assert "nvpmodel -q" in jetson.probe_power_mode(root).reason
    status = write(root / "var/lib/nvpmodel/status", "pmode:0000\n")
    assert "name unknown (mode 0)" in jetson.probe_power_mode(root).reason
    write(root / "etc/nvpmodel.conf", NVPMODEL)
    probe = jetson.probe_power_mode(root)
    assert probe.reason == "15W (mode 0) of 15W, 25W, MAXN_SUPER, 7W"
    assert not probe.ok and probe.optional and probe.hint == "sudo nvpmodel -m 2"
    write(status, "pmode:0002")
    assert jetson.probe_power_mode(root) == Probe(
        "power mode", True, "MAXN_SUPER (mode 2) of 15W, 25W, MAXN_SUPER, 7W"
    )


@pytest.mark.parametrize(
    ("least", "ok", "reason"), [("306000000", False, "306 to 1020"), ("1020000000", True, "held at 1020")]
)
def test_clocks_held_or_scaling(root: Path, least: str, ok: bool, reason: str) -> None:
    assert "jetson_clocks --show" in jetson.probe_clocks(root).reason
    write(root / "sys/class/devfreq/15340000.vic/min_freq", "1")
    gpu = root / "sys/class/devfreq/17000000.gpu"
    write(gpu / "min_freq", f"{least}\n")
    write(gpu / "max_freq", "1020000000\n")
    probe = jetson.probe_clocks(root)
    assert probe.ok is ok and reason in probe.reason
    assert ok or "jetson_clocks" in str(probe.hint)
