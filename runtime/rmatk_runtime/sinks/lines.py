"""A text file that only ever holds whole lines, whatever happens to the process or the disk."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from rmatk_runtime.errors import SinkError, naming_storage_errors

_LONGEST_LINE = 1 << 20  # bytes; as far back as the beginning of a line is looked for


class LineFile:
    """Hands each line to the system before the next frame is taken.

    ``-`` is standard output. Line sinks do not wait for the end to appear under their name: a person follows
    them with ``tail -f``. ``append``: an existing file is continued, after its last whole line; otherwise it
    is replaced. ``heading``: its first line, where there is one.
    """

    def __init__(self, target: str | Path, *, append: bool = False) -> None:
        self._path = Path(target)
        self._stdout = str(target) == "-"
        self._name = "standard output" if self._stdout else str(target)
        self._length = 0
        self.heading = b""
        if self._stdout:
            if sys.stdout is None:
                raise SinkError("standard output is closed", "open it, or give the name of a file")
            self._file = sys.stdout.buffer
            return
        with naming_storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if append and self._path.is_file():
                self._file = self._path.open("r+b", buffering=0)
                self._length = self._after_the_last_line()
            else:
                self._file = self._path.open("wb", buffering=0)

    def _after_the_last_line(self) -> int:
        """Cut off a line that a power cut has left unfinished, and note the first line."""
        size = self._file.seek(0, os.SEEK_END)
        begin = self._file.seek(max(0, size - _LONGEST_LINE))
        size = begin + self._file.read(_LONGEST_LINE).rfind(b"\n") + 1
        self._file.seek(0)
        self.heading = self._file.read(min(size, _LONGEST_LINE)).partition(b"\n")[0]
        self._file.truncate(size)
        return self._file.seek(size)

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
                    self._file.seek(self._length)
            raise
        self._length += len(line)

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        if not self._stdout:
            self._file.close()
