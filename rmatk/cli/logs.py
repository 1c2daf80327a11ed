"""What the library logs, as lines on the error stream, for a person or a system's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rmatk.cli.echo import echo

_LABELS = {("rmatk.notes", logging.WARNING): "note: ", ("rmatk.api", logging.INFO): ""}


class _Lines(logging.Handler):
    """Looks up the error stream for each line, since a live view stands in for it while it is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        label = _LABELS.get((record.name, record.levelno), f"{record.levelname.lower()}: ")
        echo(f"{label}{record.getMessage()}", err=True)


@contextmanager
def log_lines(level: int = logging.INFO) -> Iterator[None]:
    """Show the log of rmatk and of its runtime, from ``level`` on, while the block runs."""
    loggers, handler = [logging.getLogger(name) for name in ("rmatk", "rmatk_runtime")], _Lines()
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(before)
