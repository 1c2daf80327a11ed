"""Selects the backend for a bundle: the one requested, or the best that works; never the CPU silently.

auto            an engine in the bundle, else ONNX Runtime on the GPU, else, where neither is installed
                or with the user's consent, the CPU
tensorrt        an engine of the bundle that was built for this machine
ort-tensorrt    ONNX Runtime's TensorRT provider
cuda            ONNX Runtime's CUDA provider
cpu             ONNX Runtime on the CPU
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.backend import Backend
from rmatk_runtime.errors import BackendError, ConfigError, MissingExtraError, command
from rmatk_runtime.nvidia.driver import hidden_on_purpose, list_gpus
from rmatk_runtime.parity.stage import StageKind
from rmatk_runtime.parity.walk import EncoderCandidate
from rmatk_runtime.platform import install_hint, jetson_model

if TYPE_CHECKING:
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.bundle.manifest import Graph
    from rmatk_runtime.tensorrt.store import BuiltEngine

log = logging.getLogger(__name__)

BACKENDS = ("auto", "tensorrt", "ort-tensorrt", "cuda", "cpu")
_DEVICES = Path("/dev")
_CONSENT = "or take the CPU: --backend cpu, or --allow-cpu in rmatk infer"


def open_backend(
    bundle: Bundle,
    name: str = "auto",
    *,
    precision: str | None = None,
    batch: int = 1,
    allow_cpu: bool = False,
    threads: int = 0,
) -> Backend:
    """Load a bundle's image encoder.

    Args:
        bundle: a verified bundle.
        name: one of ``BACKENDS``; see above.
        precision: which graph; None takes the first.
        batch: how many images will mostly come at once: among several engines, the one built for it is taken.
        allow_cpu: where a GPU was asked for, or is here, and cannot be used, run on the CPU instead.
        threads: of the engine on the CPU, 0: one per core that this process may use.

    Raises:
        ConfigError: an unknown ``name``.
        BackendError: no engine can run here as asked; the message has every reason.
    """
    if name not in BACKENDS:
        raise ConfigError([("backend", f"{name!r} is unknown; known are {', '.join(BACKENDS)}")])
    graph = bundle.graph(precision)
    if name == "cpu":
        return open_graph(bundle, graph, threads)
    if name == "auto":
        return _open_best(bundle, graph, batch, allow_cpu=allow_cpu) or open_graph(bundle, graph, threads)
    try:
        return _OPENERS[name](bundle, graph, batch)
    except (BackendError, MissingExtraError) as error:
        if not allow_cpu:
            raise BackendError(error.message, f"{error.hint or 'rmatk doctor'}; {_CONSENT}") from error
        log.warning("%s", error.message)
    return open_graph(bundle, graph, threads)


def engines_here(bundle: Bundle) -> list[BuiltEngine]:
    """Every engine of a bundle that may be used on this machine, in the order of the bundle's graphs."""
    if not _holds_engines(bundle):
        return []
    from rmatk_runtime.tensorrt.machine import this_machine
    from rmatk_runtime.tensorrt.store import survey

    usable = [found.engine for found in survey(bundle, this_machine()) if found.engine and found.usable]
    return [
        engine
        for graph in (*bundle.graphs(), *bundle.graphs("pixels"))
        for engine in usable
        if (engine.key.precision, engine.key.input) == (graph.precision, graph.input)
    ]


def open_engine(engine: BuiltEngine) -> Backend:
    """Load an engine that was found to fit. Raises as :meth:`TensorRtBackend.open`."""
    from rmatk_runtime.tensorrt.backend import TensorRtBackend

    return TensorRtBackend.open(engine)


@contextmanager
def open_candidates(bundle: Bundle, backend: str = "auto") -> Iterator[list[EncoderCandidate]]:
    """Every image encoder of a bundle, loaded for as long as the context lasts, for parity to check.

    Of a bundle with engines that run here, ``auto`` gives ONNX Runtime on the CPU per precision and then each
    of these engines, ``tensorrt`` the engines alone: the one used at run time depends on the batch size.
    In all other cases it is one per precision, as :func:`open_backend` finds it. Graphs on pixels, which
    servers run, are checked in ONNX Runtime on the CPU, by ``auto`` and ``cpu``.

    Raises:
        BackendError: see :func:`open_backend`.
        MissingExtraError: ONNX Runtime is needed and not installed.
    """
    built = engines_here(bundle) if backend in ("auto", "tensorrt") else []
    with ExitStack() as stack:
        found = []
        if not built or backend == "auto":
            for graph in bundle.graphs():
                name = "cpu" if built else backend
                opened = stack.enter_context(open_backend(bundle, name, precision=graph.precision))
                found.append(EncoderCandidate.of(opened, graph.precision, kind=StageKind.GRAPH))
        if backend in ("auto", "cpu"):
            for graph in bundle.graphs("pixels"):
                opened = stack.enter_context(open_graph(bundle, graph))
                found.append(
                    EncoderCandidate.of(opened, graph.precision, input="pixels", kind=StageKind.GRAPH)
                )
        found += [engine_candidate(engine, stack.enter_context(open_engine(engine))) for engine in built]
        yield found


def engine_candidate(engine: BuiltEngine, backend: Backend, *, batch: bool = True) -> EncoderCandidate:
    """A loaded engine; ``batch``: its batch profile is part of the name."""
    key = engine.key
    profile = [str(key.batch)] if batch else []
    return EncoderCandidate.of(backend, key.precision, *profile, input=key.input, kind=StageKind.ENGINE)


def _open_best(bundle: Bundle, graph: Graph, batch: int, *, allow_cpu: bool) -> Backend | None:
    """The first way that works, None: the CPU. An engine of the bundle that failed before it is reported."""
    gpu = _gpu_is_here()
    ways = ["tensorrt"] if _holds_engines(bundle) else []
    ways += _ways_of_onnx_runtime() if gpu else []
    if gpu and not ways:  # installed for the CPU, as `rmatk[cpu]` is: that is what was asked for
        log.warning(
            "running on the CPU: a GPU is here, but no engine in %s, and this ONNX Runtime was built without "
            "GPU providers; to use it: %s",
            bundle.path,
            command("rmatk", "export", bundle.path, "--trt"),
        )
    failed: dict[str, BackendError | MissingExtraError] = {}
    for way in ways:
        try:
            backend = _OPENERS[way](bundle, graph, batch)
        except (BackendError, MissingExtraError) as error:
            failed[way] = error
            continue
        if (stale := failed.get("tensorrt")) is not None:
            log.warning("%s\n%s", stale.message, stale.hint)
        return backend
    if not failed:
        return None
    reasons = "\n".join(f"{way}: {error.message}" for way, error in failed.items())
    if not allow_cpu:
        raise _refusal(bundle, reasons, gpu=gpu)
    log.warning("%s", reasons)
    return None


def _refusal(bundle: Bundle, reasons: str, *, gpu: bool) -> BackendError:
    """Why ``auto`` takes nothing."""
    if gpu:
        what = "a GPU is here, and nothing can use it"
        cure = command("rmatk", "export", bundle.path, "--trt")
    else:
        what, cure = f"{bundle.path} holds engines, and no GPU is here", "run it where they were built for"
    return BackendError(f"{what}\n{reasons}", f"{cure}; {_CONSENT}")


def open_graph(bundle: Bundle, graph: Graph, threads: int = 0) -> Backend:
    """A graph of a bundle in ONNX Runtime on the CPU."""
    from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend
    from rmatk_runtime.onnx_runtime.trial import ensure_runs

    ensure_runs(bundle, graph.file)
    return OnnxRuntimeBackend(bundle.file(graph.file), threads=threads)


def _find_engine(bundle: Bundle, graph: Graph, batch: int) -> Backend:
    from rmatk_runtime.tensorrt.machine import this_machine
    from rmatk_runtime.tensorrt.store import find_engine

    return open_engine(find_engine(bundle, this_machine(), precision=graph.precision, batch=batch))


def _open_ort_cuda(bundle: Bundle, graph: Graph, batch: int) -> Backend:
    from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend
    from rmatk_runtime.onnx_runtime.providers import CUDA, CUDA_OPTIONS
    from rmatk_runtime.onnx_runtime.trial import ensure_runs

    _need_provider(CUDA, "CUDA")
    ensure_runs(bundle, graph.file)
    return OnnxRuntimeBackend(bundle.file(graph.file), CUDA, provider_options=CUDA_OPTIONS)


def _open_ort_tensorrt(bundle: Bundle, graph: Graph, batch: int) -> Backend:
    from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend, load_onnxruntime
    from rmatk_runtime.onnx_runtime.providers import BATCHES, TENSORRT, tensorrt_options
    from rmatk_runtime.onnx_runtime.trial import ensure_runs

    _need_provider(TENSORRT, "TensorRT")
    ensure_runs(bundle, graph.file)
    options = tensorrt_options(bundle, graph, load_onnxruntime().__version__)
    path = bundle.file(graph.file)
    return OnnxRuntimeBackend(path, TENSORRT, provider_options=options, most=BATCHES[-1])


_OPENERS: dict[str, Callable[[Bundle, Graph, int], Backend]] = {
    "tensorrt": _find_engine,
    "ort-tensorrt": _open_ort_tensorrt,
    "cuda": _open_ort_cuda,
}


def _ways_of_onnx_runtime() -> list[str]:
    """The GPU providers that the installed ONNX Runtime was built with, under their names here."""
    from rmatk_runtime.onnx_runtime.backend import load_onnxruntime
    from rmatk_runtime.onnx_runtime.providers import CUDA, TENSORRT

    offered = load_onnxruntime().get_available_providers()
    return [name for name, provider in (("ort-tensorrt", TENSORRT), ("cuda", CUDA)) if provider in offered]


def _need_provider(provider: str, title: str) -> None:
    """Refuse what the installed ONNX Runtime was not built with."""
    from rmatk_runtime.onnx_runtime.backend import load_onnxruntime

    if provider not in load_onnxruntime().get_available_providers():
        hint = install_hint("gpu", jetson=jetson_model() is not None)
        raise BackendError(f"this ONNX Runtime has no {title} provider", hint)


def _holds_engines(bundle: Bundle) -> bool:
    from rmatk_runtime.tensorrt.store import ENGINES_FOLDER

    return any((bundle.path / ENGINES_FOLDER).glob("*.engine"))


def _gpu_is_here() -> bool:
    """Whether this machine has a GPU, even one whose driver does not start: then nobody means the CPU."""
    try:
        return bool(list_gpus())
    except BackendError:
        if hidden_on_purpose():
            return False
        return jetson_model() is not None or any(_DEVICES.glob("nvidia[0-9]*"))
