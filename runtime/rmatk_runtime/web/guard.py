"""Access control in front of every route, and the headers of every response.

Without a token the server listens on the loopback alone, and still a page on the internet can reach it: by
pointing its own name at 127.0.0.1 (DNS rebinding, hence the check of ``Host``) or by sending a form (hence
the check of ``Origin``, besides JSON bodies, which a form cannot send).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rmatk_runtime.web.limits import Attempts, Bodies

log = logging.getLogger(__name__)

COOKIE = "rmatk_session"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OPEN = ("/login", "/healthz", "/static/style.css")  # the last is the login page's
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Key:
    """A token, and the cookie that stands for it: made from it, so that it outlives a restart."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self.cookie = hmac.new(self._token, b"rmatk web session", hashlib.sha256).hexdigest()

    def fits(self, token: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(token.encode(), self._token)

    def opens(self, request: Request) -> bool:
        """Does a request carry the token or its cookie?"""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.fits(token.strip())
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self.cookie.encode())


class Guard:
    """ASGI middleware; ``key``: None on the loopback, where ``hosts`` are the names it may be called by."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: Key | None,
        hosts: tuple[str, ...] | None,
        attempts: Attempts | None = None,
    ) -> None:
        self._app, self._key, self._hosts = app, key, hosts
        self._bodies, self._attempts = Bodies(), attempts or Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a body that has its limit."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        answer = self._refuse(request)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        limited, done = self._bodies.limited(receive, request.headers.get("Content-Length", ""))
        try:
            await (answer or self._app)(scope, limited, guarded)
        except (ClientDisconnect, asyncio.CancelledError):  # the client has left, or the server ends
            log.debug("a request was not complete")
        finally:
            done()

    def _refuse(self, request: Request) -> Response | None:
        """The answer to a request that may not pass."""
        headers = request.headers
        if self._hosts is not None and _host(headers) not in self._hosts:
            return _error(403, f"this server is not called {_host(headers)!r}")
        if request.method not in ("GET", "HEAD") and not _same_origin(headers):
            return _error(403, "the request comes from another site")
        path, address = request.url.path, request.client.host if request.client else ""
        if self._key is None or (path in _OPEN and path != "/login") or self._key.opens(request):
            return None
        if self._attempts.exhausted(address):
            return _error(429, "too many wrong tokens from this address; try again in a minute")
        if path == "/login":
            return None
        if "Authorization" in headers:
            self._attempts.note(address)
        if path == "/":
            return RedirectResponse("login", status_code=303)  # relative: a proxy may serve this below a path
        return JSONResponse(
            {"error": "the token is missing or wrong", "hint": "Authorization: Bearer TOKEN"},
            status_code=401,
            headers={"WWW-Authenticate": "Bearer"},
        )


def _host(headers: Headers) -> str:
    """The name in ``Host``, without the port."""
    try:
        return urlsplit(f"//{headers.get('Host', '')}").hostname or ""
    except ValueError:  # brackets that do not match
        return ""


def _same_origin(headers: Headers) -> bool:
    """Programs send neither header; browsers send at least one of them with everything but plain reading."""
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("Origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("Host")
    except ValueError:  # brackets that do not match
        return False


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message, "hint": None}, status_code=status)
