"""What a measurement depends on, read from folders that look like machines."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from rmatk_runtime.bench.machine import forget_peak, read_machine, resident_memory


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    (tmp_path / "proc").mkdir()
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_cannot_be_read_is_unknown(root: Path):
    machine = read_machine(root)
    assert machine.cpu is machine.board is machine.power_mode is machine.clocks is None
    assert machine.governors == machine.remarks == () and machine.cores >= 1


def test_governors_and_load_are_remarked(root: Path, monkeypatch: pytest.MonkeyPatch):
    for core, governor in enumerate(("schedutil", "performance")):
        write(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", f"{governor}\n")
    write(root / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 1.0, 1.0))
    machine = read_machine(root)
    assert machine.cpu == "Some CPU @ 2 GHz" and machine.governors == ("performance", "schedutil")
    assert "load 3.0" in machine.remarks[0] and "governor performance, schedutil" in machine.remarks[1]


def test_a_jetsons_power_mode_and_clocks_are_remarked(root: Path):
    write(root / "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")
    write(root / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1\n")
    write(root / "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n")
    write(root / "var/lib/nvpmodel/status", "pmode:0000")
    for name, value in (("min_freq", 306_000_000), ("max_freq", 1_020_000_000)):
        write(root / f"sys/class/devfreq/17000000.gpu/{name}", f"{value}\n")
    machine = read_machine(root)
    assert machine.board == "NVIDIA Jetson Orin Nano, L4T 36.4.3, JetPack 6 (no package nvidia-jetpack)"
    assert machine.power_mode is not None and machine.power_mode.startswith("15W")
    assert "sudo nvpmodel -m 2" in machine.remarks[0] and "sudo jetson_clocks" in machine.remarks[1]


def test_peak_memory_is_counted_anew():
    block = mmap.mmap(-1, 64 << 20)  # not from the heap, which may have as much to spare
    for _ in range(64):
        block.write(b"x" * (1 << 20))
    high = resident_memory()
    block.close()
    forget_peak()
    low = resident_memory()
    assert high is not None and low is not None
    assert high[0] - low[0] > 32 << 20 and abs(low[0] - low[1]) < 16 << 20


def test_memory_is_unknown_where_the_system_does_not_tell(tmp_path: Path):
    forget_peak(tmp_path / "absent")
    assert resident_memory(tmp_path) is None
