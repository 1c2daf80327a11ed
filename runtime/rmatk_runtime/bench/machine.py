"""The state of the machine during a measurement, without which latencies cannot be compared.

Power modes and clock governors change figures severalfold on a Jetson, and are forgotten (tf_trt_models #41,
jetson-inference #388). What cannot be read is None, never guessed.
"""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

import msgspec

from rmatk_runtime.doctor.jetson import jetson_release, probe_clocks, probe_power_mode
from rmatk_runtime.platform import jetson_model
from rmatk_runtime.tensorrt.machine import first_gpu

_BUSY = 0.5
_PERFORMANCE = "sudo cpupower frequency-set -g performance"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What figures depend on besides the bundle.

    ``cores``: those this process may use. ``governors``: how their clocks are chosen. ``load``: processes
    that wanted a core over the minute before. ``board``, ``power_mode``, ``clocks``: a Jetson's.
    ``remarks``: what makes the figures hard to repeat, with the cure.
    """

    system: str
    cpu: str | None
    cores: int
    governors: tuple[str, ...]
    load: float
    gpu: str | None
    board: str | None
    power_mode: str | None
    clocks: str | None
    remarks: tuple[str, ...]


def read_machine(root: Path = Path("/")) -> Machine:
    """The machine as it is now; ``root``: another file system to read from."""
    load, governors, remarks = os.getloadavg()[0], _governors(root), []
    if load > _BUSY:
        remarks.append(f"other programs were running (load {load:.1f}): wait until the machine is quiet")
    if set(governors) - {"performance"}:
        remarks.append(f"clocks vary (governor {', '.join(governors)}): {_PERFORMANCE}")
    board, gpu = jetson_model(root), first_gpu()
    probes = [probe_power_mode(root), probe_clocks(root)] if board else []
    remarks += [f"{probe.reason}: {probe.hint}" for probe in probes if not probe.ok]
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu_name(root),
        cores=len(os.sched_getaffinity(0)),
        governors=governors,
        load=round(load, 2),
        gpu=None if gpu is None else gpu.name,
        board=board and f"{board}, {jetson_release(root)}",
        power_mode=probes[0].reason if probes else None,
        clocks=probes[1].reason if probes else None,
        remarks=tuple(remarks),
    )


def _governors(root: Path) -> tuple[str, ...]:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return tuple(sorted({_read(file).strip() for file in files} - {""}))


def _cpu_name(root: Path) -> str | None:
    """``model name`` on x86, ``Model`` or ``Hardware`` on some ARM boards."""
    text = _read(root / "proc/cpuinfo")
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else None


def forget_peak(process: Path = Path("/proc/self")) -> None:
    """Reset the kernel's count of peak memory; if it may not, the peak is that of the whole run so far."""
    with suppress(OSError):
        (process / "clear_refs").write_text("5")


def resident_memory(process: Path = Path("/proc/self")) -> tuple[int, int] | None:
    """Resident bytes: the peak since :func:`forget_peak`, and now; None where the system does not tell."""
    found = re.findall(r"^Vm(?:HWM|RSS):\s*(\d+) kB$", _read(process / "status"), flags=re.MULTILINE)
    return (int(found[0]) * 1024, int(found[1]) * 1024) if len(found) == 2 else None


def _read(path: Path) -> str:
    """A file's text, or nothing where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
