"""Engines: ONNX Runtime's providers, NVIDIA's driver, TensorRT and its known-bad versions."""

from __future__ import annotations

import ctypes

from rmatk_runtime.probes import Probe
from rmatk_runtime.probes.packages import tensorrt_packages
from rmatk_runtime.tensorrt_versions import known_bad


def probe_providers() -> Probe:
    """What the installed ONNX Runtime was built with; whether a provider starts shows only with a bundle."""
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        return Probe("onnxruntime", False, f"cannot be imported: {error}", "pip install 'rmatk[cpu]'")
    providers = ", ".join(onnxruntime.get_available_providers())
    return Probe("onnxruntime", True, f"{onnxruntime.__version__} with {providers}")


def probe_gpu() -> Probe:
    """NVIDIA's driver and GPUs, asked of libcuda itself: no CUDA toolkit or Python package is needed."""
    missing = "install NVIDIA's driver; in a container, start it with --gpus all or --runtime nvidia"
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Probe("gpu", False, "no NVIDIA driver (libcuda.so.1 cannot be loaded)", missing)
    if status := cuda.cuInit(0):
        return Probe("gpu", False, f"NVIDIA's driver does not start (cuInit: error {status})", missing)
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        return Probe("gpu", False, "the driver is there but lists no GPU", missing)
    names = ", ".join(_gpu_name(cuda, number) for number in range(count.value))
    major, minor = version.value // 1000, version.value % 1000 // 10
    return Probe("gpu", True, f"{names}; driver for CUDA {major}.{minor}")


def _gpu_name(cuda: ctypes.CDLL, number: int) -> str:
    """Name, compute capability and memory of one GPU."""
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, size = ctypes.create_string_buffer(128), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # COMPUTE_CAPABILITY_MAJOR
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)  # COMPUTE_CAPABILITY_MINOR
    text = name.value.decode(errors="replace")
    return f"{text} (compute {major.value}.{minor.value}, {size.value / (1 << 30):.0f} GiB)"


def probe_tensorrt(*, jetson: bool) -> Probe:
    """Which TensorRT there is, with a warning for versions known to compute ViTs wrongly."""
    packages = tensorrt_packages()
    if not packages:
        cure = "sudo apt-get install python3-libnvinfer" if jetson else "pip install 'rmatk[trt]'"
        return Probe("tensorrt", False, "no Python package of TensorRT is installed", cure)
    text = ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))
    for version in packages.values():
        if row := known_bad(version):
            return Probe("tensorrt", False, f"{text}; {row.warning(version)}", row.cure)
    return Probe("tensorrt", True, text)
