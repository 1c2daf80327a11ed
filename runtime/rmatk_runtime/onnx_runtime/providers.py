"""ONNX Runtime's GPU providers: names, options, and the libraries that must be loaded first."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import re
from typing import Any

import msgspec

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Graph
from rmatk_runtime.errors import StorageError, naming_storage_errors
from rmatk_runtime.files import cache_folder
from rmatk_runtime.tensorrt import machine
from rmatk_runtime.tensorrt.store import ENGINES_FOLDER

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

BATCHES = (1, 8, 32)  # least, best and largest; without, an engine is built anew for each new batch size

CUDA_OPTIONS = {
    "device_id": "0",
    "arena_extend_strategy": "kSameAsRequested",  # the default doubles, in memory that a Jetson shares
    "cudnn_conv_algo_search": "HEURISTIC",  # one convolution; searching exhaustively is for many
    "use_tf32": "0",  # 10 bits of significand are not float32
}


def tensorrt_options(bundle: Bundle, graph: Graph, version: str) -> dict[str, str]:
    """Options of the TensorRT provider for one graph; its engines are kept in the bundle, keyed like ours.

    Neither fp16 nor int8 is switched on: the types are the graph's, and without these switches the provider
    builds strongly typed networks.

    Args:
        bundle: where the engines go; one that cannot be written to is used without keeping them.
        graph: an image graph.
        version: ONNX Runtime's.
    """
    spec = bundle.manifest.preprocess
    least, best, most = (f"{graph.input}:{size}x3x{spec.height}x{spec.width}" for size in BATCHES)
    options = {
        "device_id": "0",
        "trt_profile_min_shapes": least,
        "trt_profile_opt_shapes": best,
        "trt_profile_max_shapes": most,
    }
    root = bundle.path / ENGINES_FOLDER
    if bundle.signature is not None:  # which does not cover what the provider keeps
        root = cache_folder()
    folder = root / "ort" / _key(bundle, graph, version)
    try:
        with naming_storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except StorageError as error:
        log.warning("the TensorRT provider builds its engine at every start: %s", error.message)
        return options
    cached = dict.fromkeys(("trt_engine_cache_enable", "trt_timing_cache_enable"), "True")
    return {
        **options,
        **cached,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_path": str(folder),
    }


def _key(bundle: Bundle, graph: Graph, version: str) -> str:
    """A folder name for all that an engine of the provider depends on."""
    here = machine.this_machine()
    parts = {
        "onnxruntime": version,
        "tensorrt": here.tensorrt.get("tensorrt"),
        "gpu": here.gpu,
        "compute_capability": here.compute_capability,
        "onnx_sha256": bundle.manifest.graph_digest(graph.file),
        "batches": BATCHES,
    }
    digest = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:8]
    gpu = re.sub(r"\W+", "-", here.gpu or "no-gpu")
    return f"{graph.input}-{graph.precision}-ort{version}-{gpu}-{digest}"


def preload_libraries(runtime: Any) -> None:
    """Load CUDA and cuDNN from NVIDIA's pip packages, where this ONNX Runtime (1.21 and newer) can.

    It prints what it misses; standard output belongs to results, so that goes to the log.
    """
    preload = getattr(runtime, "preload_dlls", None)
    if preload is None:
        return
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        preload()
    if text := printed.getvalue().strip():
        log.info("%s", text)
