"""``onnxruntime-gpu`` without a GPU: records what a session is asked for, grants what it is told to.

Providers that are not granted fail as in the real one: with an exception where falling back to the CPU was
forbidden, else without a word. Granted ones compute on the CPU.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import onnxruntime

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


class SessionOptions(onnxruntime.SessionOptions):
    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value
        if key != "session.disable_cpu_ep_fallback":  # the CPU stands in for the GPU
            super().add_session_config_entry(key, value)


@dataclass
class FakeOnnxRuntime:
    """The module; ``asked`` holds (provider, its options, session entries) of every session."""

    granted: tuple[str, ...] = (CUDA,)
    available: tuple[str, ...] = (TENSORRT, CUDA, CPU)
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    preloaded: int = 0
    forbids_fallback: bool = True  # older versions do not know that entry, and say nothing
    __version__ = "1.26.0"
    capi = onnxruntime.capi
    SessionOptions = SessionOptions

    def get_available_providers(self) -> list[str]:
        return list(self.available)

    def preload_dlls(self, cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: Any = None):
        self.preloaded += 1
        sys.stdout.write("Failed to load libcudnn.so.9\n")

    def InferenceSession(self, path: str, options: SessionOptions, *, providers: Any, **rest: Any) -> Any:
        ((provider, provider_options),) = providers
        self.asked.append((provider, provider_options, options.entries))
        if provider not in (*self.granted, CPU):
            if self.forbids_fallback and options.entries.get("session.disable_cpu_ep_fallback") == "1":
                raise RuntimeError("fallback to CPU EP has been explicitly disabled by the user")
            provider = CPU
        return Session(self, onnxruntime.InferenceSession(path, options, providers=[CPU], **rest), provider)


class Session:
    def __init__(self, runtime: FakeOnnxRuntime, real: Any, provider: str) -> None:
        self._runtime, self._real, self._provider = runtime, real, provider
        self.get_inputs = real.get_inputs

    def get_providers(self) -> list[str]:
        return list(dict.fromkeys((self._provider, CPU)))

    def run(self, names: Any, feeds: dict[str, Any]) -> Any:
        self._runtime.batches.extend(len(value) for value in feeds.values())
        return self._real.run(names, feeds)
