"""Log messages of the runtime: lines on the error stream, for a person or a system's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer


class _Lines(logging.Handler):
    """Looks up the error stream for each line, since a live view stands in for it while it is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        typer.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


@contextmanager
def log_lines() -> Iterator[None]:
    """Show the runtime's log, from INFO on, while the block runs."""
    logger, handler = logging.getLogger("rmatk_runtime"), _Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
