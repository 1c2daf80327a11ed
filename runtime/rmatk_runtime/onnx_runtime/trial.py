"""A graph runs once in a process of its own before this one loads it.

ONNX Runtime, and the tokenizers library beside a text encoder, can end the process on a file that passed
every check, or take memory without bound. A service must not die of it. So the first time that a file is met
with this ONNX Runtime, a child process loads it and computes on one input, under limits on memory and time.
That it succeeded is noted in the user's cache folder, by digest: later starts cost nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle import Bundle, read_manifest
from rmatk_runtime.bundle.manifest import data_file
from rmatk_runtime.errors import BundleError, RmatkError, StorageError
from rmatk_runtime.files import cache_folder, write_atomic
from rmatk_runtime.onnx_runtime import backend

log = logging.getLogger(__name__)

_MEMORY = 256 << 20  # bytes beyond what the libraries take, and as often as the weights:
_COPIES = 8
_SECONDS = 8  # of processor time, and one for each so many bytes of weights:
_BYTES_PER_SECOND = 16 << 20
_PATIENCE = 10  # times as long on the clock: at boot other programs want the processor too


def run_image(bundle: Bundle, file: str) -> Float32:
    """The embedding (1, D) of a black picture by an image graph. Raises BackendError."""
    session = backend.create_session(bundle.file(file), threads=1)
    source = session.get_inputs()[0]
    kind = np.uint8 if source.type == "tensor(uint8)" else np.float32
    return backend.run_session(session, np.zeros((1, *source.shape[1:]), kind))


def ensure_runs(bundle: Bundle, file: str, job: Callable[[Bundle, str], Float32] = run_image) -> None:
    """Let a child process do ``job`` with a graph of a bundle, unless one has done so before.

    Args:
        bundle: a verified bundle.
        file: its graph.
        job: a function of a module, for the child to import; gives what the graph computed.

    Raises:
        BundleError: the child failed, died, or went beyond its limits.
        MissingExtraError: ONNX Runtime is not installed.
    """
    note = cache_folder() / "tried" / _key(bundle, file)
    if note.exists():
        return
    if reason := _try(bundle, file, job):
        raise BundleError(
            f"{bundle.path}: {file} cannot be used: in a process of its own it {reason}",
            "copy the bundle again, or export it again: rmatk export RUN -o BUNDLE; rmatk doctor",
        )
    try:
        write_atomic(note, b"")
    except StorageError as error:
        log.info("graphs are tried at every start: %s", error.message)


def _key(bundle: Bundle, file: str) -> str:
    """A file name for all that a trial depends on."""
    manifest = bundle.manifest
    parts = [backend.load_onnxruntime().__version__, manifest.graph_digest(file)]
    if file == manifest.text.file:
        parts.append(manifest.files[manifest.text.tokenizer].sha256)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _try(bundle: Bundle, file: str, job: Callable[[Bundle, str], Float32]) -> str | None:
    """What became of the child, where it did not run the graph."""
    names = (file, data_file(file), bundle.manifest.text.tokenizer)
    weights = sum(entry.size for name, entry in bundle.manifest.files.items() if name in names)
    seconds = _SECONDS + weights // _BYTES_PER_SECOND
    path = os.pathsep.join(filter(None, sys.path))
    arguments = [
        sys.executable,
        "-c",
        f"from {__name__} import main; main()",
        job.__module__,
        job.__qualname__,
    ]
    try:
        child = subprocess.run(
            [*arguments, str(bundle.path.resolve()), file, str(_MEMORY + _COPIES * weights), str(seconds)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds * _PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {seconds * _PATIENCE} seconds"
    if child.returncode == -signal.SIGXCPU:
        return f"took more than {seconds} seconds of processor time"
    if child.returncode < 0:
        return f"was ended by {signal.Signals(-child.returncode).name}"
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    return f"failed: {(lines or ['without a word'])[-1]}" if child.returncode else None


def main() -> None:
    """The child: do the job that the command line names; its last line of errors says what failed."""
    module, name, path, file, memory, seconds = sys.argv[1:]
    job = getattr(importlib.import_module(module), name)
    backend.load_onnxruntime()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + int(memory)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
    try:
        rows = job(Bundle(Path(path), read_manifest(Path(path))), file)
    except RmatkError as error:
        sys.exit(" ".join(error.message.split()))
    except MemoryError:
        sys.exit(f"takes more than {int(memory) >> 20} MB")
    if not np.isfinite(rows).all():
        sys.exit("gives numbers that are not finite")
