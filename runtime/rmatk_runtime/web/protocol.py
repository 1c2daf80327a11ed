"""uvicorn's HTTP protocol with two limits that it lacks: connections, and time without a request.

uvicorn accepts until the process has no file descriptors left, and then logs in a loop; a connection that
never sends a whole request line and headers stays for ever.
"""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 200
"""At once; further ones are answered with 503 and closed."""
HEADER_SECONDS = 10.0
"""Seconds without a request in progress after which a connection is closed."""
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
)
_BODY = b'{"error": "too many connections; try again later", "hint": null}'


def most_connections() -> int:
    """:data:`MOST_CONNECTIONS`, or a quarter of the files that this process may open, if fewer."""
    return max(1, min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


class BoundedProtocol(H11Protocol):
    """One connection."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.write(_REFUSAL % (len(_BODY), _BODY))
            transport.close()
        else:
            self._look(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self, before: object) -> None:
        """Close the connection if since ``before``, the last request, no other began and none is running."""
        idle = self.cycle is None or self.cycle.response_complete
        if self._watch is not None and idle and self.cycle is before:
            self.transport.close()
            return
        self._watch = self.loop.call_later(HEADER_SECONDS, self._look, self.cycle)
