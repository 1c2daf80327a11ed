"""The page, its login, and the API behind the access check: one ASGI application."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from rmatk_runtime.errors import RmatkError
from rmatk_runtime.web.api import Api, http_error, named_error
from rmatk_runtime.web.guard import COOKIE, LOOPBACK, Guard, Key
from rmatk_runtime.web.limits import Attempts
from rmatk_runtime.web.region_api import RegionApi

_STATIC = Path(__file__).parent / "static"
_YEAR = 365 * 24 * 3600


def make_app(api: Api, token: str | None = None) -> ASGIApp:
    """The application; without ``token`` it answers to the loopback's names alone."""
    key, attempts = None if token is None else Key(token), Attempts()
    routes = [
        Route("/", _page),
        Route("/login", _Login(key, attempts).answer, methods=["GET", "POST"]),
        *api.routes(),
        *RegionApi(api.regions, api.meter.source).routes(),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    app = Starlette(routes=routes, exception_handlers={RmatkError: named_error, HTTPException: http_error})
    return Guard(app, key=key, hosts=LOOPBACK if key is None else None, attempts=attempts)


async def _page(request: Request) -> Response:
    return FileResponse(_STATIC / "index.html")


class _Login:
    """Exchanges the token, from the form or a link's ``?token=``, for a cookie that scripts cannot read."""

    def __init__(self, key: Key | None, attempts: Attempts) -> None:
        self._key, self._attempts = key, attempts

    async def answer(self, request: Request) -> Response:
        token = request.query_params.get("token")
        if request.method == "POST":
            fields = parse_qs((await request.body()).decode(errors="replace"))
            token = fields.get("token", [""])[0]
        if self._key is not None and token is None:
            return FileResponse(_STATIC / "login.html")
        if self._key is not None and token is not None and not self._key.fits(token.strip()):
            self._attempts.note(request.client.host if request.client else "")
            form = (_STATIC / "login.html").read_text().replace(" hidden", "")
            return HTMLResponse(form, status_code=403)
        response = RedirectResponse("./", status_code=303)  # relative: a proxy may serve this below a path
        if self._key is not None:
            response.set_cookie(COOKIE, self._key.cookie, max_age=_YEAR, httponly=True, samesite="strict")
        return response
