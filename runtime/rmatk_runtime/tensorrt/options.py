"""The options of a build, and which of them the installed TensorRT does not support."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.settings import Problem, require
from rmatk_runtime.tensorrt.key import BatchProfile, HardwareLevel, version_numbers
from rmatk_runtime.tensorrt.library import TensorRt


@dataclass(frozen=True)
class BuildOptions:
    """What the command line's flags of the same names say.

    ``workspace``: MiB that one layer may use while running, None for what fits; ``timing_cache``: a file kept
    from build to build; ``refit``: weights can be exchanged later; ``hardware_compat``, ``version_compat``:
    see :mod:`rmatk_runtime.tensorrt.key`; ``compute_capabilities``: the GPUs to build for (``"8.9"``), for
    TensorRT for RTX alone; empty for all that it supports.
    """

    batch: BatchProfile = field(default_factory=lambda: BatchProfile(1, 1, 8))
    workspace: int | None = None
    timing_cache: Path | None = None
    refit: bool = False
    hardware_compat: HardwareLevel = "none"
    version_compat: bool = False
    compute_capabilities: tuple[str, ...] = ()


def aimed(trt: TensorRt, options: BuildOptions, gpu: Gpu | None) -> BuildOptions:
    """``options``, at this machine's GPU where it is one that TensorRT for RTX builds for only if told to."""
    told = trt.flavour == "tensorrt" or options.compute_capabilities
    if told or gpu is None or version_numbers(gpu.compute_capability) >= (8, 0):
        return options
    return replace(options, compute_capabilities=(gpu.compute_capability,))


def check_options(trt: TensorRt, options: BuildOptions, gpu: Gpu | None) -> None:
    """Raise ConfigError where ``trt`` cannot do here what is asked for; it names every such field."""
    require(*_unsupported(trt, options, gpu))


def _unsupported(trt: TensorRt, options: BuildOptions, gpu: Gpu | None) -> Iterator[Problem]:
    if trt.flavour == "tensorrt_rtx":
        yield from _unsupported_by_rtx(trt, options, gpu)
    elif options.compute_capabilities:
        yield (
            "compute_capabilities",
            "is for TensorRT for RTX; TensorRT builds for the GPU of this machine "
            "(hardware compatibility admits others)",
        )
    if hardware_level(trt, options.hardware_compat) is None:
        yield "hardware_compat", f"{options.hardware_compat}: {trt.title} does not know it"


def _unsupported_by_rtx(trt: TensorRt, options: BuildOptions, gpu: Gpu | None) -> Iterator[Problem]:
    """Its builder accepts these calls and ignores them, or fails for lack of a library (seen in 1.7)."""
    if options.timing_cache is not None:
        yield (
            "timing_cache",
            "is for TensorRT; TensorRT for RTX measures nothing while it builds and has no timing cache",
        )
    if options.hardware_compat != "none":
        yield (
            "hardware_compat",
            "is for TensorRT; engines of TensorRT for RTX run on compute capability 8.0 and newer, or on the "
            "compute capabilities given",
        )
    if options.version_compat:
        yield (
            "version_compat",
            "is for TensorRT; TensorRT for RTX lacks the lean runtime that such a plan contains",
        )
    if options.refit and gpu is None:
        yield "refit", "needs a GPU with TensorRT for RTX, and there is none here"
    for target in options.compute_capabilities:
        if compute_capability(trt, target) is None:
            yield "compute_capabilities", f"{target}: {trt.title} cannot build for it"


def compute_capability(trt: TensorRt, target: str) -> Any | None:
    """The module's name for ``"8.9"``, or None where it has none."""
    return trt.member("ComputeCapability", f"SM{target.replace('.', '')}")


def hardware_level(trt: TensorRt, level: HardwareLevel) -> Any | None:
    """The module's name for a level of hardware compatibility, or None where it has none."""
    return trt.member("HardwareCompatibilityLevel", level.upper())
