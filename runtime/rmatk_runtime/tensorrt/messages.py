"""TensorRT's log messages: it returns None and writes the reason to its log."""

from __future__ import annotations

import logging
import re
from typing import Any

from rmatk_runtime.errors import BackendError
from rmatk_runtime.tensorrt.library import TensorRt
from rmatk_runtime.tensorrt.options import BuildOptions

log = logging.getLogger(__name__)

# How a builder that ran out of memory says so. The first is the usual one on a Jetson: no kernel fitted
# (NVIDIA/TensorRT #3355, #1404).
_MEMORY = re.compile(
    r"could not find any implementation for node|out ?of ?memory|requires workspace memory"
    r"|insufficient (?:workspace|memory)|memory ?alloc|requested size",
    re.IGNORECASE,
)
_ENOUGH = 512  # MiB of workspace; a ViT-B at batch 8 needs less


class Messages:
    """What TensorRT said: ``errors`` in order; the rest goes to the log. ``log`` is what it writes to."""

    def __init__(self, trt: TensorRt) -> None:
        self.errors: list[str] = []
        self.log = _make_logger(trt, self)

    def add(self, severity: str, text: str) -> None:
        """Keep an error, log anything."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)
        log.debug("%s: %s", severity, text)

    def last(self) -> str:
        """The last error, which is the one that ended what was tried."""
        return self.errors[-1] if self.errors else "it gave no reason"


def _make_logger(trt: TensorRt, messages: Messages) -> Any:
    base: Any = trt.module.ILogger

    class Logger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.add(severity.name, text)

    return Logger()


def means_memory(words: str) -> bool:
    """Whether TensorRT's words are those of memory that did not suffice."""
    return _MEMORY.search(words) is not None


def build_error(trt: TensorRt, what: str, messages: Messages, options: BuildOptions) -> BackendError:
    """Why a build failed, in TensorRT's words; where they mean memory, what to try."""
    words = messages.last()
    turing = trt.flavour == "tensorrt_rtx" and "7.5" in options.compute_capabilities
    if not means_memory(words) and turing and ".fp16." not in what:
        return BackendError(
            f"{trt.title} cannot build {what} for Turing (7.5), where it needs an fp16 graph: {words}",
            "rmatk export RUN -o BUNDLE --precision fp16, and build from that graph",
        )
    if not means_memory(words):
        return BackendError(f"{trt.title} cannot build {what}: {words}", "rmatk doctor")
    if options.workspace is None or options.workspace > _ENOUGH:
        cure = f"retry with --workspace {_ENOUGH}"
    else:
        cure = "retry with a larger --workspace"
    return BackendError(
        f"{trt.title} cannot build {what}, probably because of too little memory: {words}",
        f"close other programs or add swap, then {cure}",
    )
