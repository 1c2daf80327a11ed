"""``signature.json`` in a bundle: an Ed25519 signature over the manifest, the engines and a release number.

The manifest contains the digests of all files of a bundle, so its digest covers them. Engines are made on the
device and are not in the manifest; their sidecars contain the digests of the plans, so the digests of the
sidecars cover them. Decision: docs/decisions/034-signed-bundles.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from rmatk_runtime.errors import TrustError, command
from rmatk_runtime.files import contained, sha256_file, write_atomic
from rmatk_runtime.formats import Format
from rmatk_runtime.trust.keys import key_id, named

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "signature.json"
_LARGEST = 1 << 20  # bytes
_PREFIX = b"rmatk-signature 1\n"  # no other use of the same key can be taken for a signature of a bundle

_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was signed, by which key, and the signature (base64).

    ``name``: releases are counted per name; ``release``: a device that has run it refuses smaller ones.
    ``engines``: SHA-256 of the engines' sidecars by file name.
    """

    format: Literal["rmatk-signature"] = "rmatk-signature"
    version: Literal[1] = 1
    minor: int = 0
    key: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    release: Annotated[int, Meta(ge=0, le=1 << 53)]
    manifest: _Digest
    engines: dict[str, _Digest] = {}
    signature: str = ""

    def message(self) -> bytes:
        """The bytes that are signed: everything but the signature, keys in order."""
        unsigned = msgspec.structs.replace(self, signature="")
        return _PREFIX + msgspec.json.encode(unsigned, order="deterministic")


_SIGNATURE = Format(Signature, decisive=tuple(Signature.__struct_fields__))


def sign_bundle(
    bundle: Path, manifest: bytes, key: Ed25519PrivateKey, *, name: str, release: int
) -> Signature:
    """Sign a bundle's manifest and the sidecars of its engines; written to ``signature.json``.

    Raises:
        StorageError: disk full, no permission.
    """
    unsigned = Signature(
        key=key_id(key.public_key()),
        name=name,
        release=release,
        manifest=hashlib.sha256(manifest).hexdigest(),
        engines={file.name: sha256_file(file) for file in sorted((bundle / "engines").glob("*.json"))},
    )
    signed = base64.b64encode(key.sign(unsigned.message())).decode()
    signature = msgspec.structs.replace(unsigned, signature=signed)
    write_atomic(bundle / SIGNATURE, _SIGNATURE.encode(signature))
    return signature


def read_signature(bundle: Path) -> Signature | None:
    """A bundle's signature, not verified; None where it has none.

    Raises:
        TrustError: it cannot be read.
    """
    file = bundle / SIGNATURE
    if not file.exists():
        return None
    try:
        with contained(bundle, file).open("rb") as opened:
            return _SIGNATURE.decode(opened.read(_LARGEST))[0]
    except (OSError, ValueError, RecursionError) as error:
        raise TrustError(f"{file} is not a signature: {error}", _sign_again(bundle)) from error


def verify_bundle(bundle: Path, manifest: bytes, keys: Mapping[str, Ed25519PublicKey]) -> Signature:
    """The signature of a bundle, made by one of the trusted ``keys`` over these bytes of its manifest.

    Raises:
        TrustError: none, by another key, or over something else.
    """
    from cryptography.exceptions import InvalidSignature

    signature = read_signature(bundle)
    if signature is None:
        raise TrustError(f"{bundle} is not signed, and trusted keys were given", _sign_again(bundle))
    key = keys.get(signature.key)
    if key is None:
        raise TrustError(
            f"{bundle} is signed by the key {signature.key}, which is not trusted; trusted: {named(keys)}",
            "get the bundle from its maker, or add the maker's public key to --trust",
        )
    try:
        key.verify(base64.b64decode(signature.signature, validate=True), signature.message())
    except (InvalidSignature, binascii.Error) as error:
        raise TrustError(
            f"{bundle / SIGNATURE} was altered: its signature is wrong", _sign_again(bundle)
        ) from error
    if hashlib.sha256(manifest).hexdigest() != signature.manifest:
        raise TrustError(
            f"{bundle} was altered after it was signed: its manifest is not the one that was signed",
            f"get it again from its maker; after changing labels on this device: {_sign_again(bundle)}",
        )
    return signature


def _sign_again(bundle: Path) -> str:
    return command("rmatk", "sign", bundle, "--key", "FILE")
