"""Who may ask: token, cookie, origin, host, and the headers of every answer."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from rmatk_runtime.web.app import make_app
from rmatk_runtime.web.guard import COOKIE, Key
from rmatk_runtime.web.limits import ATTEMPTS

TOKEN = "a-token-of-some-length"


@pytest.fixture
def guarded(running) -> TestClient:
    return TestClient(make_app(running.api, TOKEN), base_url="http://camera:8000", follow_redirects=False)


@pytest.fixture
def local(running) -> TestClient:
    return TestClient(make_app(running.api), base_url="http://localhost:8000")


def test_without_the_token_only_health_and_login_answer(guarded: TestClient):
    for path in ("/v1/status", "/v1/frame", "/metrics", "/static/app.js", "/v1/nothing"):
        answer = guarded.get(path)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.post("/v1/threshold", json={"value": 0.5}).status_code == 401
    answer = guarded.get("/")
    assert answer.status_code == 303 and answer.headers["Location"] == "login"
    assert guarded.get("/login").status_code == guarded.get("/healthz").status_code == 200
    assert guarded.get("/static/style.css").status_code == 200


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_the_token_in_a_header_opens(guarded: TestClient, given: str):
    assert guarded.get("/v1/status", headers={"Authorization": given}).status_code == 200


@pytest.mark.parametrize("given", ["Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer schön"])
def test_anything_else_does_not(guarded: TestClient, given: str):
    headers = {"Authorization": given.encode()}
    assert guarded.get("/v1/status", headers=headers).status_code == 401


def test_the_login_form_sets_a_cookie_that_scripts_cannot_read(guarded: TestClient):
    answer = guarded.post("/login", data={"token": "wrong"})
    assert answer.status_code == 403 and "set-cookie" not in answer.headers
    assert '<p role="alert">That is not the token.' in answer.text
    answer = guarded.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303 and answer.headers["Location"] == "./"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert guarded.get("/v1/status").status_code == 200  # the client keeps it
    assert guarded.get("/").status_code == 200


def test_a_link_exchanges_its_token_once(guarded: TestClient):
    answer = guarded.get(f"/login?token={TOKEN}")
    assert answer.status_code == 303 and answer.headers["Location"] == "./" and COOKIE in guarded.cookies
    assert guarded.get("/").status_code == 200
    guarded.cookies.clear()
    assert guarded.get("/login?token=wrong").status_code == 403
    assert guarded.get("/").status_code == 303


def test_the_cookie_belongs_to_its_token():
    assert Key(TOKEN).cookie == Key(TOKEN).cookie != Key(TOKEN + "x").cookie


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.168.1.7:8000", "[::1"])
def test_on_the_loopback_other_names_are_refused(local: TestClient, host: str):
    assert local.get("/v1/status", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8000"])
def test_its_own_names_are_not(local: TestClient, host: str):
    assert local.get("/v1/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_sites_change_nothing(running, local: TestClient, headers: dict[str, str]):
    answer = local.post("/v1/threshold", json={"value": 0.5}, headers=headers)
    assert answer.status_code == 403 and running.classifier.head.threshold is None


def test_a_form_cannot_change_anything(running, local: TestClient):
    own = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        body = b'{"value": 0.5}'
        answer = local.post("/v1/threshold", content=body, headers={**own, "Content-Type": kind})
        assert answer.status_code == 415 and running.classifier.head.threshold is None
    assert local.post("/v1/threshold", json={"value": 0.5}, headers=own).status_code == 200


def test_every_answer_carries_the_headers(guarded: TestClient, local: TestClient):
    for answer in (guarded.get("/"), guarded.get("/v1/status"), local.get("/"), local.get("/static/app.js")):
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"


def test_wrong_tokens_are_counted(guarded: TestClient):
    answers = [guarded.post("/login", data={"token": f"wrong{n}"}).status_code for n in range(ATTEMPTS + 2)]
    assert answers == [403] * ATTEMPTS + [429] * 2
    assert guarded.get("/v1/status", headers={"Authorization": "Bearer wrong"}).status_code == 429
    assert guarded.get("/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
