"""Engines: ONNX Runtime's providers, NVIDIA's driver, TensorRT and its known-bad versions."""

from __future__ import annotations

from rmatk_runtime.errors import BackendError
from rmatk_runtime.gpu import driver_version, list_gpus
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
    """NVIDIA's driver and GPUs."""
    try:
        gpus = list_gpus()
    except BackendError as error:
        return Probe("gpu", False, error.message, error.hint)
    names = ", ".join(
        f"{gpu.name} (compute {gpu.compute_capability}, {gpu.memory / (1 << 30):.0f} GiB)" for gpu in gpus
    )
    return Probe("gpu", True, f"{names}; driver for CUDA {driver_version()}")


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
