"""Probes of ONNX Runtime: whether it loads, known problems, and which providers it really uses.

It lists GPU providers on machines without a GPU and falls back to the CPU without an exception
(microsoft/onnxruntime #25145), so each provider is asked to run a model of one node.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rmatk_runtime.doctor.packages import installed_version
from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.errors import RmatkError
from rmatk_runtime.onnx_runtime.backend import CPU, create_session, load_onnxruntime, run_session

IDENTITY = Path(__file__).with_name("identity.onnx")  # y = x, float32, one element; a test writes it anew
_NOT_ENGINES = {"AzureExecutionProvider"}  # calls a web service
_FATAL, _WARNING = 4, 2  # ONNX Runtime's severities


def probe_onnxruntime(*, jetson: bool, gpu: bool) -> list[Probe]:
    """The package first; if it can be imported, then one probe per provider that it was built with."""
    package = _probe_package(jetson=jetson)
    if not package.ok:
        return [package]
    names = [name for name in load_onnxruntime().get_available_providers() if name not in _NOT_ENGINES]
    return [package, *(_probe_provider(name, jetson=jetson, gpu=gpu) for name in names)]


def _probe_package(*, jetson: bool) -> Probe:
    """One of the two packages, importable, with the NumPy that it was built for."""
    versions = {name: installed_version(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    there = [f"{name} {version}" for name, version in versions.items() if version]
    gpu = "install NVIDIA's wheel: docs/JETSON.md" if jetson else "pip install 'rmatk[gpu]'"
    if len(there) == 2:
        reason = f"{' and '.join(there)} are both installed and overwrite each other's files"
        return Probe(
            "onnxruntime", False, reason, f"pip uninstall -y onnxruntime onnxruntime-gpu; then {gpu}"
        )
    if not there:
        return Probe("onnxruntime", False, "not installed", f"pip install 'rmatk[cpu]'; for a GPU {gpu}")
    if jetson and versions["onnxruntime-gpu"] and sys.version_info[:2] == (3, 10) and _numpy_major() > 1:
        reason = f"{there[0]} for JetPack 6 is built for NumPy 1, NumPy {np.__version__} is installed"
        return Probe("onnxruntime", False, reason, "pip install 'numpy<2'")
    try:
        import onnxruntime  # noqa: F401
    except (ImportError, OSError) as error:
        cure = f"pip install --force-reinstall {there[0].split()[0]}"
        return Probe("onnxruntime", False, f"{there[0]} does not load: {error}", cure)
    return Probe("onnxruntime", True, there[0])


def _numpy_major() -> int:
    return int(np.__version__.split(".")[0])


def _probe_provider(provider: str, *, jetson: bool, gpu: bool) -> Probe:
    """Whether a session on ``provider`` is granted, and gives back what it is fed."""
    short = provider.removesuffix("ExecutionProvider").lower()
    name = f"onnxruntime {short}"
    # Without a GPU none can be granted, and engines of our own make the TensorRT provider dispensable.
    optional = provider != CPU and not (gpu and short == "cuda")
    cure = _cure(short, jetson=jetson)
    try:
        with _quiet():
            session = create_session(IDENTITY, provider)
    except RmatkError as error:
        return Probe(name, False, _missing_library(short) or error.message, cure, optional)
    try:
        result = run_session(session, np.ones(1, np.float32)).tolist()
    except RmatkError as error:  # as without kernels for this GPU
        return Probe(name, False, f"granted, but fails: {error.message}", cure)
    if result != [1.0]:
        return Probe(name, False, f"granted, but computes {result} instead of [1.0]", cure)
    return Probe(name, True, "granted, and runs")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's default logger from writing what the probe is about to say."""
    runtime = load_onnxruntime()
    runtime.set_default_logger_severity(_FATAL)
    try:
        yield
    finally:
        runtime.set_default_logger_severity(_WARNING)


def _missing_library(short: str) -> str | None:
    """The library that keeps a provider from loading, as the linker names it."""
    library = Path(load_onnxruntime().__file__).parent / "capi" / f"libonnxruntime_providers_{short}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error) if "cannot open shared object file" in str(error) else None
    return None


def _cure(short: str, *, jetson: bool) -> str | None:
    if short == "tensorrt":
        return "not needed for engines: rmatk export BUNDLE --trt; the provider itself wants TensorRT 10"
    if short == "cuda" and not jetson:
        return "pip install 'onnxruntime-gpu[cuda,cudnn]', and a driver for its CUDA"
    return "docs/JETSON.md" if jetson else None
