"""Removes credentials from addresses for logs, errors, records and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

_NAMES = r"[\w-]*(?:user|usr|login|pass|pwd|pw\b|token|key|auth|secret|cred|sig)[\w-]*"
_SECRET = re.compile(rf"({_NAMES}=).*", re.IGNORECASE | re.DOTALL)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def without_credentials(uri: str) -> str:
    """``uri`` fit for logs: no user, password, token or query; of a pipeline, only the elements' names.

    Everything up to the last ``@`` goes, since passwords with unescaped ``@`` or ``/`` are common; where a
    ``?`` stands before it, the address too, for what follows may be the query's. Losing a host's name in a
    rare path with ``@`` is the smaller harm.
    """
    if uri.lower().startswith("test://"):  # a size and a rate, parted by @: nothing secret
        return uri
    if uri.lower().startswith("gst:"):
        return "gst:" + " ! ".join(_elements(uri[4:]))
    scheme, separator, rest = uri.partition("://")
    user, at, address = rest.rpartition("@")
    if not separator:  # a path, or an address mistyped
        before, colon, secret = uri.partition(":")
        return f"{before}:...@{secret.rpartition('@')[2]}" if colon and "@" in secret else uri
    if at and re.search(r"[?#]", user):
        return f"{scheme}://..."
    return f"{scheme}://" + _SECRET.sub(r"\1...", re.split(r"[?#]", address)[0])


def _elements(pipeline: str) -> list[str]:
    """The first word of each part: an element's name, a type, or an address."""
    parts = (part.split() for part in re.split(r"(?:^|\s)!(?:\s|$)", pipeline))
    return [without_credentials(re.split(r"[,=]", part[0])[0]) for part in parts if part]


def secrets_in(words: Iterable[str]) -> list[str]:
    """What nobody may read of a pipeline's words: ``location=rtsp://me:pw@cam/``, ``user-pw=pw``."""
    secrets: set[str] = set()
    for word in words:
        if (match := _SECRET.match(word)) is not None:
            secrets.add(word[match.end(1) :])
        rest = word.partition("://")[2]
        for user in (rest[: at.start()] for at in re.finditer("@", rest)):
            secrets.update((user, *user.split(":", 1)))
        for query in (rest[mark.end() :] for mark in re.finditer(r"\?", rest)):
            secrets.update((query, *(part.partition("=")[2] or part for part in query.split("&"))))
    secrets.update([unquote(secret) for secret in secrets])
    return sorted(filter(None, secrets), key=len, reverse=True)


def scrubbed(text: str, secrets: Sequence[str] = ()) -> str:
    """``text`` of another program without ``secrets``, and its addresses without credentials."""
    for secret in secrets:
        text = text.replace(secret, "...")
    return _URI.sub(lambda match: without_credentials(match[0]), text)
