"""Ed25519 keys in PEM files, as openssl writes them; the trusted keys are one file or a folder of them.

openssl genpkey -algorithm ed25519 -out vendor.key
openssl pkey -in vendor.key -pubout -out vendor.pub
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmatk_runtime.errors import MissingExtraError, TrustError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LARGEST = 1 << 16  # bytes
_MAKE = (
    "make a pair: openssl genpkey -algorithm ed25519 -out FILE; openssl pkey -in FILE -pubout -out FILE.pub"
)


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file without a password.

    Raises:
        TrustError: no such file, or no Ed25519 private key in it.
        MissingExtraError: cryptography is not installed.
    """
    ed25519, serialization = _import()
    key = _load(path, lambda data: serialization.load_pem_private_key(data, None))
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise TrustError(f"{path} is not an Ed25519 private key", _MAKE)
    private: Ed25519PrivateKey = key
    return private


def load_trusted_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """The public keys in a PEM file, or in the ``*.pub`` and ``*.pem`` files of a folder, by :func:`key_id`.

    Raises:
        TrustError: nothing there, or a file that is not an Ed25519 public key.
        MissingExtraError: cryptography is not installed.
    """
    ed25519, serialization = _import()
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".pub", ".pem"))
    if not files:
        raise TrustError(f"{path} contains no keys (*.pub, *.pem)", _MAKE)
    keys = {}
    for file in files:
        key = _load(file, serialization.load_pem_public_key)
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise TrustError(f"{file} is not an Ed25519 public key", _MAKE)
        keys[key_id(key)] = key
    return keys


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the SHA-256 of a public key's 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def named(keys: Mapping[str, object]) -> str:
    """Keys by their ids, for messages."""
    return ", ".join(sorted(keys))


def _import() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("cryptography, which checks signatures,", "sign") from None
    return ed25519, serialization


def _load(path: Path, load: Callable[[bytes], Any]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with path.open("rb") as file:
            return load(file.read(_LARGEST))
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}", _MAKE) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # no PEM, another kind of key, a password
        raise TrustError(f"{path} is not a key that can be used: {error}", _MAKE) from error
