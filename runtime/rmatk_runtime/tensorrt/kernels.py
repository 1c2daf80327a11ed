"""Kernels that TensorRT for RTX compiles when an engine is loaded, kept for the next start.

``engines/STEM.kernels``: one line of JSON, :class:`KernelsHeader`, and behind it TensorRT's runtime cache
as it serialises it. One file per engine, written whole when kernels came to it. Kernels are code, as a
plan is, so they are given back only where the header's key is this plan's on this GPU and the bytes are the
header's; TensorRT then compares once more what it knows of the machine. What cannot be used is logged and
made again: a cache never stops an engine.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, Literal

import msgspec

from rmatk_runtime.errors import BackendError, StorageError
from rmatk_runtime.files import write_atomic
from rmatk_runtime.nvidia.driver import driver_version
from rmatk_runtime.tensorrt.machine import first_gpu
from rmatk_runtime.tensorrt.store import BuiltEngine, kernels_path

log = logging.getLogger(__name__)

LARGEST = 256 << 20  # bytes of a file that is read or written; kernels of one tower take a small part of it
_HEADER_LIMIT = 4096


class KernelKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What kernels were made for: ``plan``: its SHA-256; the library's version; GPU; the driver's CUDA."""

    plan: str
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str


class KernelsHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first line of the file; ``sha256`` of all bytes behind it."""

    format: Literal["rmatk-kernels"] = "rmatk-kernels"
    version: Literal[1] = 1
    key: KernelKey
    sha256: str


class Kernels:
    """TensorRT's runtime cache of one loaded plan, and its file.

    Args:
        path: the file; it need not be there yet.
        key: of the plan on this machine.
    """

    def __init__(self, path: Path, key: KernelKey) -> None:
        self.path, self.key = path, key
        self._cache: Any = None
        self._on_disk = ""  # SHA-256 of the kernels in the file, as far as they are TensorRT's too
        self._grown = False
        self._disk_refused = False

    def attach(self, config: Any) -> None:
        """Give a runtime configuration its cache, with what was kept; a CUDA context must be current."""
        create = getattr(config, "create_runtime_cache", None)
        cache = None if create is None else create()
        if cache is None or not config.set_runtime_cache(cache):
            log.info("this TensorRT for RTX takes no runtime cache: kernels are made at every start")
            return
        self._cache = cache
        try:
            kept = self._read()
        except (OSError, ValueError) as error:
            # As text: a record that holds an error holds every frame's variables, TensorRT's objects too
            reason = getattr(error, "strerror", None) or str(error)
            log.warning("kernels are compiled again, %s cannot be used: %s", self.path, reason)
            return
        if kept is None:
            return
        if not cache.deserialize(kept):
            log.warning("kernels are compiled again, TensorRT does not accept %s here", self.path)
            return
        self._on_disk = hashlib.sha256(kept).hexdigest()

    def note_context(self) -> None:
        """A new execution context will bring kernels, once it has run."""
        self._grown = True

    def save(self) -> None:
        """Write the file where kernels came since; call it when new contexts have run. Never raises."""
        if self._cache is None or self._disk_refused or not self._grown:
            return
        self._grown = False
        memory = self._cache.serialize()
        data = b"" if memory is None else bytes(memory)
        digest = hashlib.sha256(data).hexdigest()
        if not data or digest == self._on_disk:
            return
        if len(data) > LARGEST:
            log.warning("kernels of %d MB are not kept: %s", len(data) >> 20, self.path)
            return
        header = msgspec.json.encode(KernelsHeader(key=self.key, sha256=digest))
        try:
            write_atomic(self.path, header + b"\n" + data)
        except StorageError as error:
            self._disk_refused = True
            log.warning("kernels are made at every start: %s", error.message)
            return
        self._on_disk = digest

    def close(self) -> None:
        """Let go of the cache; every context must be gone before."""
        self._cache = None

    def _read(self) -> bytes | None:
        """What was kept, None where nothing was.

        Raises:
            ValueError: it is not this plan's on this machine, is damaged or too large.
            OSError: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                line = file.readline(_HEADER_LIMIT)
                data = file.read(LARGEST + 1)
        except FileNotFoundError:
            return None
        try:
            header = msgspec.json.decode(line, type=KernelsHeader)
        except msgspec.MsgspecError as error:
            raise ValueError(f"its first line: {error}") from error
        if header.key != self.key:
            raise ValueError(f"made for {_differences(header.key, self.key)}")
        if len(data) > LARGEST or hashlib.sha256(data).hexdigest() != header.sha256:
            raise ValueError("its bytes are not those that its header names")
        return data


def _differences(kept: KernelKey, here: KernelKey) -> str:
    """``driver 12.8, here 13.0``, for each part that differs."""
    pairs = ((name, getattr(kept, name), getattr(here, name)) for name in KernelKey.__struct_fields__)
    return "; ".join(f"{name} {old[:40]}, here {new[:40]}" for name, old, new in pairs if old != new)


def kernels_of(engine: BuiltEngine) -> Kernels | None:
    """The kept kernels of an engine on this machine; None for TensorRT itself, whose plans hold theirs."""
    if engine.key.flavour != "tensorrt_rtx" or (gpu := first_gpu()) is None:
        return None
    try:
        driver = driver_version()
    except BackendError:  # loading the engine will say so
        return None
    key = KernelKey(
        plan=engine.sidecar.sha256,
        tensorrt=engine.key.tensorrt,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=driver,
    )
    return Kernels(engine.kernels or kernels_path(engine.path), key)
