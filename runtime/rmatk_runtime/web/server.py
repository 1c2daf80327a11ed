"""The web server in its own thread, beside the loop."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from rmatk_runtime.errors import SinkError
from rmatk_runtime.web.guard import LOOPBACK
from rmatk_runtime.web.limits import FewLines
from rmatk_runtime.web.protocol import BoundedProtocol

log = logging.getLogger(__name__)

SHORTEST_TOKEN = 16
_START = 10.0  # seconds; it takes a fraction of one
_MAKE = "export RMATK_WEB_TOKEN=$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))')"


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 takes any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """``HOST:PORT``, ``[::1]:PORT`` or ``:PORT`` (the loopback).

        Raises:
            SinkError: something else.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise SinkError(f"--web takes HOST:PORT, not {text!r}", "for example --web 127.0.0.1:8000")
        return cls(host.strip("[]") or "127.0.0.1", int(port))

    @property
    def is_loopback(self) -> bool:
        """Can only this machine reach it?"""
        return self.host in LOOPBACK

    def check_token(self, token: str | None) -> None:
        """Refuse to listen where others can reach it without a token that cannot be guessed.

        Raises:
            SinkError: no token, or a short one.
        """
        if token is None and not self.is_loopback:
            raise SinkError(
                f"--web {self.host}:{self.port} can be reached by others, so it needs a token",
                f"{_MAKE}, or stay on this machine: --web 127.0.0.1:{self.port}",
            )
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise SinkError(f"the web token has {len(token)} characters, fewer than {SHORTEST_TOKEN}", _MAKE)


class WebServer:
    """Listens from construction on; ends within a second of :meth:`close`.

    ``url``: where the page is.

    Raises:
        SinkError: the address is taken or not this machine's.
    """

    def __init__(self, app: ASGIApp, address: Address) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            self._socket = socket.create_server((address.host, address.port), family=family)
        except OSError as error:
            raise SinkError(
                f"cannot listen on {address.host}:{address.port}: {error.strerror or error}",
                "choose another port, or see who has it: ss -ltnp",
            ) from error
        host = f"[{address.host}]" if family == socket.AF_INET6 else address.host
        self.url = f"http://{_reachable(host)}:{self._socket.getsockname()[1]}/"
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
        )
        for name in ("uvicorn.error", "asyncio"):  # what a client can cause must not fill the disk
            logger = logging.getLogger(name)
            if not any(isinstance(each, FewLines) for each in logger.filters):
                logger.addFilter(FewLines())
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="rmatk web", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    @property
    def alive(self) -> bool:
        """False once it has ended, for whatever reason."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End, also under open connections; calling it twice does no harm."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=1.0)
        self._socket.close()


def _reachable(host: str) -> str:
    """A name to type for an address that means all of them."""
    try:
        every = ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return host
    return socket.gethostname() if every else host
