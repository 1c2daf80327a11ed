"""Probes of the GPU, its visibility, and the CUDA bindings that run TensorRT engines."""

from __future__ import annotations

from pathlib import Path

from rmatk_runtime.doctor.packages import installed_version
from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.errors import BackendError, RmatkError
from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu, driver_version, list_gpus

_NVIDIA = "0x10de"  # PCI vendor


def probe_gpu(*, jetson: bool, root: Path = Path("/")) -> Probe:
    """The GPUs; where there is none, whether the machine has none or the driver or container hides it."""
    try:
        names = ", ".join(map(_describe, list_gpus()))
        return Probe("gpu", True, f"{names}; driver for CUDA {driver_version()}")
    except BackendError as error:
        problem, hint = error.message, error.hint
    if "CUDA_VISIBLE_DEVICES" in problem:
        return Probe("gpu", False, problem, hint)
    if not (jetson or _has_nvidia_gpu(root)):
        return Probe("gpu", False, f"{problem}, and no NVIDIA GPU on the PCI bus", optional=True)
    if _in_container(root):
        start = (
            "start the container with --runtime nvidia" if jetson else "start the container with --gpus all"
        )
        return Probe("gpu", False, f"{problem}: this container was not given the GPU", start)
    install = "sudo apt-get install nvidia-jetpack" if jetson else "install NVIDIA's driver, then restart"
    return Probe("gpu", False, problem, install)


def _describe(gpu: Gpu) -> str:
    return f"{gpu.name} (compute {gpu.compute_capability}, {gpu.memory / (1 << 30):.0f} GiB)"


def _has_nvidia_gpu(root: Path) -> bool:
    """Whether the PCI bus has a display controller of NVIDIA's; seen from inside a container too."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith("0x03"):
            return True
    return False


def _in_container(root: Path) -> bool:
    return any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))


def probe_cuda() -> Probe:
    """What TensorRT engines run on; the bindings' CUDA must not be of a later major than the driver's."""
    version = installed_version("cuda-bindings")
    try:
        driver = driver_version()
    except BackendError:
        driver = None
    cure = f"pip install 'cuda-bindings=={driver.split('.')[0]}.*'" if driver else "pip install cuda-bindings"
    if version is None:
        reason = "cuda-bindings, which TensorRT engines run on, is not installed"
        return Probe("cuda", False, reason, cure, optional=True)
    if driver is None:
        return Probe("cuda", False, f"cuda-bindings {version}, and no driver to use it on", optional=True)
    try:
        Cuda.load()
    except RmatkError as error:
        reason = f"cuda-bindings {version} on a driver for CUDA {driver}: {error.message}"
        return Probe("cuda", False, reason, cure)
    return Probe("cuda", True, f"cuda-bindings {version}")
