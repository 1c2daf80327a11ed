"""The timing cache: kernel measurements kept in a file for the next build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmatk_runtime.errors import BackendError
from rmatk_runtime.files import write_atomic


def attach_timing_cache(config: Any, path: Path) -> None:
    """Give ``config`` the cache in ``path``, or an empty one where there is no such file yet.

    Raises:
        BackendError: it cannot be read, or is another TensorRT's or GPU's.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise BackendError(f"the timing cache {path} cannot be read: {error.strerror}") from error
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BackendError(
            f"{path} is no timing cache of this TensorRT on this GPU", "give another file to --timing-cache"
        )


def save_timing_cache(config: Any, path: Path) -> None:
    """Write what ``config`` has measured, and what was measured before.

    Raises:
        StorageError: disk full, no permission.
    """
    write_atomic(path, bytes(config.get_timing_cache().serialize()))
