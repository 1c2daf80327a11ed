"""Addresses without what must not be read by others: they go into logs, errors, records and pictures."""

from __future__ import annotations

import re

_SECRET = re.compile(r"(?i)((?:user|usr|login|pass|pwd|token|key|auth|secret)\w*=)[^&;/]*")


def without_credentials(uri: str) -> str:
    """``uri`` fit for logs: no user, password, token or query.

    Everything up to the last ``@`` goes, since passwords with unescaped ``@`` or ``/`` are common; losing a
    host's name in a rare path with ``@`` is the smaller harm.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    rest = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://" + _SECRET.sub(r"\1...", rest)
