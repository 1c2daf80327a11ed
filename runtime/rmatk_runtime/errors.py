"""Every error that a user can meet, with what to do next.

    RmatkError                      exit code 1
      ConfigError                   exit code 2: arguments or settings that cannot be used; a ValueError too
      MissingExtraError             a package of an extra is not installed
      DataError                     photos, labels or folders that cannot be used
      RunError                      a training run that cannot be read or does not fit its backbone
      BackboneError                 an unknown, unsupported or unreachable CLIP model
      BundleError                   a bundle that is incomplete, altered or of another format
        TrustError                  a bundle that is unsigned, wrongly signed or too old
      LabelError                    labels that cannot be changed as asked
      ExportError                   a graph or bundle that could not be made
      BackendError                  an inference engine that cannot run a bundle here
      SourceError                   a camera, stream, video or image that cannot be read
      SinkError                     an output that cannot be written
      StorageError                  disk full, no permission
      ParityError                   exit code 3: results differ from PyTorch's by more than the tolerance

The command line prints ``message`` and ``hint`` without a traceback and leaves with ``exit_code``.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def command(*words: object) -> str:
    """A command as a shell reads it, for hints and next steps: words with spaces or quotes are quoted."""
    return shlex.join(map(str, words))


class RmatkError(Exception):
    """A named failure: ``message`` says what was expected, found and where; ``hint`` what to run next."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(RmatkError, ValueError):
    """Arguments or settings that cannot be used.

    ``problems``: pairs of a field and what is wrong with it (``("shots", "must be at least 1, not 0")``).
    The message names the fields; the command line names its options instead (:meth:`worded`).
    """

    exit_code = 2

    def __init__(self, problems: Iterable[tuple[str, str]], hint: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(self.worded(str), hint)

    def worded(self, name: Callable[[str], str]) -> str:
        """The message with every field under the name that ``name`` gives it."""
        return "; ".join(f"{name(field)} {problem}" for field, problem in self.problems)


class MissingExtraError(RmatkError):
    """A package that belongs to an optional extra is not installed.

    ``hint``: how it is installed on this platform, where that is not pip.
    """

    def __init__(self, what: str, extra: str, hint: str | None = None) -> None:
        super().__init__(f"{what} is not installed", hint or f"pip install 'rmatk[{extra}]'")


class DataError(RmatkError):
    """Photos, labels or folders that cannot be used."""


class RunError(RmatkError):
    """A training run that cannot be read, or does not fit the backbone at hand."""


class BackboneError(RmatkError):
    """An unknown, unsupported or unreachable CLIP model."""


class BundleError(RmatkError):
    """A bundle that is incomplete, altered or of another format."""


class TrustError(BundleError):
    """A bundle that is unsigned, wrongly signed or older than one that ran here; an unusable key."""


class LabelError(RmatkError):
    """Labels that cannot be changed as asked: a name that is empty, taken or unknown, a bad prompt."""


class ExportError(RmatkError):
    """A graph or bundle that could not be made."""


class BackendError(RmatkError):
    """An inference engine that cannot run a bundle here."""


class SourceError(RmatkError):
    """A camera, stream, video or image that cannot be read."""


class SinkError(RmatkError):
    """An output that cannot be written."""


class StorageError(RmatkError):
    """The disk refused: full, read-only, no permission."""


class ParityError(RmatkError):
    """Results differ from PyTorch's by more than the stated tolerance."""

    exit_code = 3


@contextmanager
def naming_storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` raised while writing ``path`` into a :class:`StorageError` that names it.

    Raises:
        StorageError: with the cause (disk full, quota, permission, read-only) and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"disk full while writing {path}", "free some space, or choose another place"
            ) from error
        reason = error.strerror or str(error)
        raise StorageError(f"cannot write {path}: {reason}", "choose another place") from error
