"""Lists NVIDIA GPUs by querying the driver (libcuda); no CUDA toolkit or Python package is needed."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

from rmatk_runtime.errors import BackendError

_MISSING = "install NVIDIA's driver; in a container, start it with --gpus all or --runtime nvidia"
_NO_DEVICE = 100  # CUresult: also where CUDA_VISIBLE_DEVICES names none that is there
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_UNHIDE = "unset CUDA_VISIBLE_DEVICES, or give it a number that nvidia-smi -L lists"


@dataclass(frozen=True)
class Gpu:
    """One GPU: memory in bytes; ``integrated``: it shares the processor's memory, as on a Jetson."""

    name: str
    compute_capability: str
    memory: int
    integrated: bool


def hidden_on_purpose() -> bool:
    """Whether ``CUDA_VISIBLE_DEVICES``, which chooses among several GPUs, says that there shall be none."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")


def driver() -> ctypes.CDLL:
    """The started driver.

    Raises:
        BackendError: it is missing or does not start.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise BackendError("no NVIDIA driver (libcuda.so.1 cannot be loaded)", _MISSING) from None
    status = cuda.cuInit(0)
    if status == _NO_DEVICE and (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        raise BackendError(f"CUDA_VISIBLE_DEVICES={chosen!r} leaves no GPU to be seen", _UNHIDE)
    if status:
        raise BackendError(f"NVIDIA's driver does not start (cuInit: error {status})", _MISSING)
    return cuda


def driver_version() -> str:
    """The newest CUDA that the driver runs, as ``13.0``.

    Raises:
        BackendError: it is missing or does not start.
    """
    version = ctypes.c_int()
    driver().cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def list_gpus() -> list[Gpu]:
    """Every GPU that the driver lists; the first is the one that engines use.

    Raises:
        BackendError: no driver, or no GPU.
    """
    cuda, count = driver(), ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        raise BackendError("the driver is there but lists no GPU", _MISSING)
    return [_describe(cuda, number) for number in range(count.value)]


def _describe(cuda: ctypes.CDLL, number: int) -> Gpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    values = {code: ctypes.c_int() for code in (_MAJOR, _MINOR, _INTEGRATED)}
    for code, value in values.items():
        cuda.cuDeviceGetAttribute(ctypes.byref(value), code, device)
    return Gpu(
        name.value.decode(errors="replace"),
        f"{values[_MAJOR].value}.{values[_MINOR].value}",
        memory.value,
        bool(values[_INTEGRATED].value),
    )
