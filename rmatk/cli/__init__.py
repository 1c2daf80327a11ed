"""The command line: one module per command, none of which imports torch before it is needed.

``main`` is the console script. Errors a user can meet are printed as message and hint and mapped to exit
codes (0 ok, 1 a named error, 2 usage, 3 parity failed, 130 interrupted); ``--debug`` shows the traceback.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from rmatk.cli.echo import echo
from rmatk.cli.given import flag
from rmatk_runtime import __version__
from rmatk_runtime.errors import ConfigError, RmatkError, StorageError
from rmatk_runtime.printable import printable

# As a newcomer meets them: the whole way, then each step of it, then what helps.
_ORDER = ("demo", "train", "eval", "export", "parity", "infer", "bench", "labels", "sign", "info", "doctor")


class _Commands(TyperGroup):
    """Says that Ctrl-C was heard; Typer alone leaves with 130 and not a word."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands in the order of ``rmatk --help``."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def invoke(self, ctx: Any) -> object:
        """Run the command; its own ``Exit`` (train and infer have more to say) passes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _leave_interrupted()
        except typer.BadParameter as error:
            error.message = printable(error.message, keep="\n")
            raise


class _Command(TyperCommand):
    """Turns settings that cannot be used into a usage error that names the options."""

    def invoke(self, ctx: Any) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise typer.BadParameter(error.worded(flag), ctx) from error


_Function = TypeVar("_Function", bound=Callable[..., Any])


class _App(typer.Typer):
    def command(self, name: str | None = None, **options: Any) -> Callable[[_Function], _Function]:
        """Register a command whose errors name its options."""
        return super().command(name, cls=_Command, **options)


app = _App(
    name="rmatk",
    cls=_Commands,
    help="From a handful of photos to a camera on a small device: train, export, check, run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"rmatk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    interrupts: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
    _print_anything()
    try:
        _run()
    except KeyboardInterrupt:  # while the commands were imported, before any of them ran
        _leave_interrupted()
    except ImportError:  # compiled modules (torch's NumPy bridge) swallow the interrupt and are half imported
        if not interrupts:
            raise
        _leave_interrupted()


def _print_anything() -> None:
    """Escape what a stream's encoding lacks (Latin-1 terminals, names of files that are no UTF-8)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _run() -> None:
    """Run the command that was typed; its named errors leave the process."""
    from rmatk.cli import commands  # noqa: F401 - registers the commands on app

    debug = "--debug" in sys.argv[1:]
    if debug:  # allowed anywhere on the line, since it is usually added after a command has failed
        sys.argv.remove("--debug")
    try:
        app()
    except RmatkError as error:
        if debug:
            raise
        _leave(error)
    except OSError as error:  # files are written under names of their own errors; what is left is print's
        if debug or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes what is left once more when it ends
        place = error.filename or "standard output"
        _leave(StorageError(f"disk full while writing {place}", "free some space, or choose another place"))
    except ModuleNotFoundError as error:
        from rmatk_runtime.doctor.packages import missing_extra

        missing = missing_extra(error)
        if debug or missing is None:
            raise
        _leave(missing)


def _leave_interrupted() -> NoReturn:
    """After Ctrl-C, where no command had anything to finish."""
    echo("interrupted", err=True)
    sys.exit(130)


def _leave(error: RmatkError) -> NoReturn:
    """Print an error and what to do about it, and leave with its exit code."""
    echo(f"error: {error.message}", err=True)
    if error.hint:
        echo(f" hint: {error.hint}", err=True)
    sys.exit(error.exit_code)
