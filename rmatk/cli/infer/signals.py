"""Ctrl-C, SIGTERM and SIGHUP during a run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rmatk_runtime.inference.loop import Stop

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
EXIT_CODES = {reason: 128 + number for number, reason in REASONS.items()}


@contextmanager
def signals_ask(stop: Stop) -> Iterator[None]:
    """Have signals ask the loop to end, rather than strike wherever it stands.

    However many come, files are finished: two in a row are common, since ``timeout`` and other wrappers
    signal the process and then its group. A signal that is ignored, as behind a script's ``&``, stays so.
    """

    terminals = [number for number in (1, 2) if os.isatty(number)]

    def ask(number: int, frame: object) -> None:
        if number == signal.SIGHUP:  # a terminal that has gone refuses whatever is written
            for terminal in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
        stop.ask(REASONS[signal.Signals(number)])

    heard = [number for number in REASONS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, ask) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave_at_once(code: int) -> NoReturn:
    """End the process without the interpreter's own end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
