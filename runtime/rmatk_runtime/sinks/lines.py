"""A text file that contains only whole lines, whatever happens to the process or the disk."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from rmatk_runtime.errors import SinkError, naming_storage_errors


class LineFile:
    """Hands each line to the system before the next frame is taken.

    ``-`` is standard output. Line sinks do not wait for the end to appear under their name: a person follows
    them with ``tail -f``.
    """

    def __init__(self, target: str | Path) -> None:
        self._path = Path(target)
        self._stdout = str(target) == "-"
        self._name = "standard output" if self._stdout else str(target)
        self._length = 0
        if self._stdout:
            self._file = sys.stdout.buffer
            return
        with naming_storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb", buffering=0)

    def write(self, line: bytes) -> None:
        """Append ``line``, which ends in a newline, whole or not at all.

        Raises:
            StorageError: disk full.
            SinkError: the reader at the other end of standard output has gone.
        """
        try:
            with naming_storage_errors(Path(self._name)):
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
                self._file.flush()
        except BaseException as error:
            if isinstance(error.__cause__, BrokenPipeError):
                if self._stdout:  # or Python would complain once more when it flushes at exit
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SinkError(f"the reader of {self._name} has gone") from error
            if not self._stdout:
                with suppress(OSError):  # pipes and devices cannot be cut back
                    self._file.truncate(self._length)
            raise
        self._length += len(line)

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        if not self._stdout:
            self._file.close()
