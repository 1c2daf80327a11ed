"""The newest release of each bundle that this device has run, so that an older one is refused.

An attacker who cannot sign may still send a bundle that was signed long ago, with a fault that is known now.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from rmatk_runtime.errors import TrustError, naming_storage_errors
from rmatk_runtime.files import locked, write_atomic
from rmatk_runtime.trust.signature import Signature

_LARGEST = 1 << 20  # bytes


def state_file() -> Path:
    """``$XDG_STATE_HOME/rmatk/releases.json``; under systemd in the unit's ``StateDirectory``."""
    root = os.environ.get("STATE_DIRECTORY", "").split(":")[0] or os.environ.get("XDG_STATE_HOME")
    return Path(root or Path("~/.local/state").expanduser()) / "rmatk" / "releases.json"


def check_release(signature: Signature) -> None:
    """Refuse a release that is older than one of the same name and key that this device has run.

    Raises:
        TrustError: it is older, or what was noted cannot be read.
    """
    newest = _read(state_file()).get(_key(signature), 0)
    if signature.release < newest:
        raise TrustError(
            f"release {signature.release} of {signature.name!r} is older than {newest}, "
            "which this device has run",
            f"install the newer one; to go back on purpose, remove {state_file()}",
        )


def note_release(signature: Signature) -> None:
    """Note that a release runs.

    Raises:
        StorageError: disk full, no permission: then the device could not refuse older ones later.
        TrustError: what was noted cannot be read.
    """
    file = state_file()
    if _read(file).get(_key(signature), -1) >= signature.release:
        return
    with naming_storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.parent):
        noted = _read(file)
        noted[_key(signature)] = max(signature.release, noted.get(_key(signature), 0))
        write_atomic(file, msgspec.json.encode(noted, order="sorted"))


def _key(signature: Signature) -> str:
    return f"{signature.key} {signature.name}"


def _read(file: Path) -> dict[str, int]:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(_LARGEST), type=dict[str, int])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        hint = f"if it is damaged, remove it: rm {file}"
        raise TrustError(f"{file} cannot be read: {error}", hint) from error
