"""Builds an engine from a bundle's graph, on the machine that will run it, without torch.

Precision comes from the graph: networks are strongly typed, and TF32 is off, since it would leave a float32
graph 10 bits of significand. Nothing is written before the plan is complete.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from typing import Any

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Graph
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.driver import Gpu
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.progress import OnProgress, no_progress
from rmatk_runtime.tensorrt.builder_config import Profile, configure
from rmatk_runtime.tensorrt.key import BatchProfile, EngineKey
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.messages import Messages, build_error
from rmatk_runtime.tensorrt.network import parse_network, strong_typing
from rmatk_runtime.tensorrt.options import BuildOptions, aimed, check_options
from rmatk_runtime.tensorrt.progress import progress_monitor
from rmatk_runtime.tensorrt.store import BuiltEngine, write_engine
from rmatk_runtime.tensorrt.timing_cache import save_timing_cache


@dataclass(frozen=True)
class BuildPlan:
    """What a build gives: the plan's bytes, the layers of the network it was built from, and its seconds."""

    data: bytes
    layers: int
    seconds: float


def build_engine(
    bundle: Bundle,
    graph: Graph,
    trt: TensorRt,
    options: BuildOptions,
    *,
    gpu: Gpu | None,
    on_progress: OnProgress = no_progress,
) -> BuiltEngine:
    """Build a bundle's image graph and put the engine into the bundle, replacing one of the same key.

    Raises:
        BackendError: this TensorRT or machine cannot build it; nothing is left.
        StorageError: disk full, no permission.
        KeyboardInterrupt: Ctrl-C; nothing is left.
    """
    options = aimed(trt, options, gpu)
    key = engine_key(bundle, graph, trt, options, gpu)
    profiles: dict[str, Profile] = {
        graph.input: image_profile(bundle.manifest.preprocess, graph, options.batch)
    }
    plan = build_plan(trt, bundle.file(graph.file), profiles, options, gpu=gpu, on_progress=on_progress)
    return write_engine(
        bundle,
        plan.data,
        key=key,
        built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(plan.seconds, 3),
        layers=plan.layers,
    )


def build_plan(
    trt: TensorRt,
    onnx: Path,
    profiles: Mapping[str, Profile],
    options: BuildOptions,
    *,
    gpu: Gpu | None,
    on_progress: OnProgress = no_progress,
) -> BuildPlan:
    """Compile an ONNX file.

    Args:
        trt: the TensorRT to build with.
        onnx: the graph.
        profiles: the least, optimal and largest shape of every dynamic input.
        options: how; the batch in it is not used here.
        gpu: this machine's, None without one, which only TensorRT for RTX can do.
        on_progress: called with the innermost phase and the percentage done, from another thread.

    Raises:
        ConfigError: ``options`` that this TensorRT does not have.
        BackendError: it cannot build here, or fails.
        StorageError: the timing cache cannot be written.
        KeyboardInterrupt: Ctrl-C.
    """
    strong_typing(trt)
    check_options(trt, options, gpu)
    if gpu is None and trt.flavour == "tensorrt":
        raise BackendError(
            "TensorRT builds on the GPU that will run the engine, and the driver lists none here",
            "rmatk doctor says why; TensorRT for RTX builds without one: --flavour tensorrt_rtx",
        )
    began, stop, messages = time.monotonic(), Event(), Messages(trt)
    builder = _create_builder(trt, messages)
    network = parse_network(trt, builder, onnx, messages)
    config = configure(trt, builder, profiles, options, gpu)
    monitor = progress_monitor(trt, on_progress, stop)
    config.progress_monitor = monitor  # and held here: it must outlive the build
    data = _build(builder, network, config, stop)
    if data is None:
        raise build_error(trt, onnx.name, messages, options)
    if options.timing_cache is not None:
        save_timing_cache(config, options.timing_cache)
    return BuildPlan(bytes(data), network.num_layers, time.monotonic() - began)


def engine_key(
    bundle: Bundle, graph: Graph, trt: TensorRt, options: BuildOptions, gpu: Gpu | None
) -> EngineKey:
    """The key of the engine that :func:`build_engine` makes."""
    rtx = trt.flavour == "tensorrt_rtx"
    targets = options.compute_capabilities
    if not rtx and gpu is not None:
        targets = (gpu.compute_capability,)
    return EngineKey(
        flavour=trt.flavour,
        tensorrt=trt.version,
        machine=platform.machine(),
        gpu=None if rtx or gpu is None else gpu.name,
        compute_capabilities=targets,
        precision=graph.precision,
        input=graph.input,
        batch=options.batch,
        onnx_sha256=bundle.manifest.graph_digest(graph.file),
        hardware_compatibility="ampere_plus" if rtx and not targets else options.hardware_compat,
        version_compatible=options.version_compat,
        refittable=options.refit,
    )


def image_profile(spec: PreprocessSpec, graph: Graph, batch: BatchProfile) -> Profile:
    """The shapes of an image graph's input: (N, 3, H, W), or (N, H, W, 3) on pixels."""
    rest = (3, spec.height, spec.width) if graph.input == "images" else (spec.height, spec.width, 3)
    return (batch.min, *rest), (batch.opt, *rest), (batch.max, *rest)


def _create_builder(trt: TensorRt, messages: Messages) -> Any:
    try:
        return trt.module.Builder(messages.log)
    except (TypeError, RuntimeError) as error:  # pybind11: "factory function returned nullptr"
        raise BackendError(f"{trt.title} does not start: {messages.last()}", "rmatk doctor") from error


def _build(builder: Any, network: Any, config: Any, stop: Event) -> Any | None:
    """Build in a thread, so that Ctrl-C arrives in this one, asks the builder to stop, and waits for it."""
    interrupted = False
    try:
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(builder.build_serialized_network, network, config)
            while not building.done():
                try:
                    building.exception()  # waits
                except KeyboardInterrupt:
                    interrupted = True
                    stop.set()
    except KeyboardInterrupt:  # in the moment of starting: the pool then knows of no thread to wait for
        stop.set()
        raise
    if interrupted:
        raise KeyboardInterrupt
    return building.result()
