"""A text file that only ever holds whole lines, whatever happens to the process or the disk."""

from __future__ import annotations

import sys
from pathlib import Path

from rmatk_runtime.errors import SinkError, naming_storage_errors


class LineFile:
    """Writes each line with one unbuffered call, so it is on its way before the next frame is taken.

    ``-`` is standard output. Line sinks do not wait for the end to appear under their name: a person follows
    them with ``tail -f``.
    """

    def __init__(self, target: str | Path) -> None:
        self._path = Path(target)
        self._stdout = str(target) == "-"
        self._length = 0
        if self._stdout:
            self._file = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
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
            with naming_storage_errors(self._path):
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
        except BaseException as error:
            if not self._stdout:
                self._file.truncate(self._length)
            if isinstance(error.__cause__, BrokenPipeError):
                raise SinkError("standard output was closed by its reader") from error
            raise
        self._length += len(line)

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        self._file.close()
