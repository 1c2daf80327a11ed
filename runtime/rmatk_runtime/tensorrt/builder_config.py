"""A builder's configuration from the options: flags by name, shapes, memory, target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmatk_runtime.nvidia.cuda import Cuda
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.options import BuildOptions, compute_capability, hardware_level
from rmatk_runtime.tensorrt.timing_cache import attach_timing_cache

Shape = tuple[int, ...]
Profile = tuple[Shape, Shape, Shape]
"""The least, the optimal and the largest shape of an input."""

_MIB = 1 << 20


def configure(
    trt: TensorRt, builder: Any, profiles: Mapping[str, Profile], options: BuildOptions, gpu: Gpu | None
) -> Any:
    """The configuration for one build; ``options`` hold nothing that ``trt`` objects to.

    Raises:
        BackendError: a timing cache of another GPU, or the GPU cannot be asked for its memory.
        MissingExtraError: cuda-bindings, through which it is asked, is not installed.
    """
    config = builder.create_builder_config()
    flags = trt.module.BuilderFlag
    config.clear_flag(flags.TF32)
    if options.refit:
        config.set_flag(flags.REFIT)
    if options.version_compat:
        config.set_flag(flags.VERSION_COMPATIBLE)
    if options.hardware_compat != "none":
        config.hardware_compatibility_level = hardware_level(trt, options.hardware_compat)
    if options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for number, target in enumerate(options.compute_capabilities):
            config.set_compute_capability(compute_capability(trt, target), number)
    if (workspace := _workspace(options, gpu)) is not None:
        config.set_memory_pool_limit(trt.module.MemoryPoolType.WORKSPACE, workspace)
    if options.timing_cache is not None:
        attach_timing_cache(config, options.timing_cache)
    profile = builder.create_optimization_profile()
    for name, shapes in profiles.items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    return config


def _workspace(options: BuildOptions, gpu: Gpu | None) -> int | None:
    """Bytes that a layer may use; TensorRT's own default is all of the GPU's memory, free or not.

    On a Jetson that is the whole board's, and building then ends in "Could not find any implementation for
    node" or takes the desktop with it (NVIDIA/TensorRT #3355, ultralytics/ultralytics #14751). Half of what
    is free leaves the rest to weights and activations.
    """
    if options.workspace is not None:
        return options.workspace * _MIB
    if gpu is None:
        return None
    free, _ = Cuda.load().call("cudaMemGetInfo")
    return int(free) // 2
