"""What the page and other programs are told, and what they can change."""

from __future__ import annotations

import dataclasses
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from rmatk_runtime.bundle import read_manifest
from rmatk_runtime.sources.base import SourceState
from rmatk_runtime.web import api as web_api
from rmatk_runtime.web import limits, meter
from rmatk_runtime.web.app import make_app


@pytest.fixture
def client(running) -> TestClient:
    return TestClient(make_app(running.api), base_url="http://localhost")


def png(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (50, 40), colour).save(data, "PNG")
    return data.getvalue()


def test_status_tells_how_the_run_goes(running, client: TestClient):
    for index in range(3):
        running.result(index)
    running.meter.tally.dropped = 2
    status = client.get("/v1/status").json()
    assert status["frames"] == 3 and status["dropped"] == 2 and status["state"] == "live"
    assert status["trouble"] is None and status["source"] == "still" and status["engine"] == "onnxruntime cpu"
    assert status["latency_ms"]["p50"] == pytest.approx(20.0)
    assert status["labels"] == ["blue dot", "green check", "red stripe"]
    assert status["threshold"] is None and status["snapshots"] == {}


def test_health_is_of_the_source_and_of_results(running, client: TestClient, monkeypatch):
    assert client.get("/healthz").status_code == 200
    running.source.state = SourceState.LOST
    answer = client.get("/healthz")
    assert answer.status_code == 503 and answer.json() == {"ok": False, "reason": "the source is lost"}
    running.source.state = SourceState.LIVE
    monkeypatch.setattr(meter, "STALLED", -1.0)
    answer = client.get("/healthz")
    assert answer.status_code == 503 and "no result for" in answer.json()["reason"]


def test_metrics_are_prometheus_text_with_bounded_labels(running, client: TestClient, monkeypatch):
    monkeypatch.setattr(meter, "MOST_LABELS", 2)
    for index, label in enumerate(['a "quoted"\nlabel', "b", "c", "d", "b"]):
        running.result(index, label)
    running.meter.tally.dropped = 4
    client.post("/v1/classify", content=b"x", headers={"Content-Type": "image/png"})
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for line in (
        'rmatk_frames_total{camera=""} 5.0',
        'rmatk_dropped_frames_total{camera=""} 4.0',
        'rmatk_results_total{camera="",label="a \\"quoted\\"\\nlabel",region=""} 1.0',
        'rmatk_results_total{camera="",label="b",region=""} 2.0',
        'rmatk_results_total{camera="",label="other",region=""} 2.0',
        'rmatk_latency_seconds_bucket{camera="",le="0.01"} 0.0',
        'rmatk_latency_seconds_bucket{camera="",le="0.02"} 5.0',
        'rmatk_source_state{camera="",rmatk_source_state="live"} 1.0',
        'rmatk_source_state{camera="",rmatk_source_state="lost"} 0.0',
        'rmatk_classify_requests_total{status="400"} 1.0',
    ):
        assert line in lines


def test_a_frame_comes_with_its_own_prediction(running, client: TestClient, monkeypatch):
    monkeypatch.setattr(web_api, "WAIT", 0.05)
    assert client.get("/v1/frame").status_code == 204
    running.result(7)
    answer = client.get("/v1/frame?after=0")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape == (30, 40, 3) and abs(int(picture.mean()) - 70) <= 2
    result = json.loads(answer.headers["X-Rmatk-Result"])
    assert result["number"] == 1 and result["frame"] == 7 and result["top"][1]["label"] == "größe"
    assert client.get("/v1/frame?after=1").status_code == 204
    assert client.get("/v1/frame?after=99").status_code == 200  # a viewer of an earlier run
    assert client.get("/v1/frame?after=x").status_code == 400


def test_a_viewer_that_waits_gets_the_next_frame_at_once(running, client: TestClient):
    running.result(0)
    timer = threading.Timer(0.2, running.result, (1,))
    timer.start()
    began = time.monotonic()
    answer = client.get("/v1/frame?after=1")
    assert json.loads(answer.headers["X-Rmatk-Result"])["frame"] == 1
    assert time.monotonic() - began < web_api.WAIT
    timer.join()


def test_large_pictures_are_sent_smaller(running, client: TestClient):
    running.result(0)
    newest = running.live.newest()
    large = dataclasses.replace(newest.frame, image=np.zeros((1000, 2000, 3), np.uint8))
    running.live.put(large, newest.looked.results[0][1])
    assert Image.open(io.BytesIO(client.get("/v1/frame").content)).size == (960, 480)


@pytest.mark.parametrize("form", [False, True])
def test_a_picture_is_classified_as_by_the_classifier(running, client: TestClient, form: bool):
    if form:
        answer = client.post("/v1/classify", files={"image": ("photo.png", png())})
    else:
        answer = client.post("/v1/classify", content=png(), headers={"Content-Type": "image/png"})
    expected = running.classifier.classify([np.full((40, 50, 3), (200, 30, 30), np.uint8)])[0]
    assert answer.status_code == 200
    assert answer.json()["label"] == expected.label
    found = [(score["label"], score["probability"]) for score in answer.json()["top"]]
    assert found == [(score.label, round(score.probability, 4)) for score in expected.top]


def test_pictures_that_cannot_be_used_are_named(client: TestClient, monkeypatch):
    def post(content: bytes, kind: str) -> tuple[int, str]:
        answer = client.post("/v1/classify", content=content, headers={"Content-Type": kind})
        return answer.status_code, answer.json()["error"]

    assert post(b"no picture", "image/jpeg") == (400, "the picture is not an image that can be read")
    status, error = post(png()[:60], "application/octet-stream")
    assert status == 400 and "cannot be decoded" in error
    assert post(png(), "text/plain")[0] == 415
    answer = client.post("/v1/classify", files={"photo": ("photo.png", png())})
    assert answer.status_code == 400 and "field 'image'" in answer.json()["error"]
    monkeypatch.setattr(limits, "MOST_BYTES", 50)
    assert post(png(), "image/png")[0] == 413
    assert client.post("/v1/classify", files={"image": ("photo.png", png())}).status_code == 413


def test_labels_are_edited_and_taken_over_by_the_running_classifier(running, client: TestClient):
    answer = client.post("/v1/labels/add", json={"name": "red dot", "prompts": ["a {}."]})
    assert answer.status_code == 200
    assert answer.json()["labels"][-1] == {"name": "red dot", "prompts": ["a red dot."]}
    assert client.post("/v1/labels/rename", json={"old": "blue dot", "new": "pea"}).status_code == 200
    assert client.post("/v1/labels/remove", json={"name": "red stripe"}).status_code == 200
    running.classifier.refresh()
    assert client.get("/v1/status").json()["labels"] == ["pea", "green check", "red dot"]
    assert client.get("/v1/labels").json()["labels"][0] == {
        "name": "pea",
        "prompts": ["a photo of a blue dot."],
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("labels/add", {"name": "blue dot"}, 422, "two labels called"),
        ("labels/add", {"name": "red dot", "prompts": ["none"]}, 422, "has no {}"),
        ("labels/add", {"nam": "red dot"}, 422, "unknown field"),
        ("labels/add", {"name": 3}, 422, "Expected `str`"),
        ("labels/remove", {"name": "cup"}, 422, "no label 'cup'"),
        ("labels/rename", {"old": "cup", "new": "mug"}, 422, "no label 'cup'"),
        ("threshold", {"value": 1.5}, 422, "Expected `float` <= 1"),
        ("threshold", {"value": "high"}, 422, "Expected `float`"),
        ("snapshots", {"label": " "}, 422, "must not be empty"),
    ],
)
def test_mistakes_are_named(running, client: TestClient, path: str, body, status: int, message: str):
    running.result()
    before = (running.bundle / "manifest.json").read_bytes()
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == status and message in answer.json()["error"]
    assert (running.bundle / "manifest.json").read_bytes() == before
    assert list(running.folder.iterdir()) == []


def test_the_threshold_is_the_running_classifiers_and_kept_on_demand(running, client: TestClient):
    picture = np.zeros((40, 40, 3), np.uint8)
    assert not running.classifier.classify([picture])[0].rejected
    assert client.post("/v1/threshold", json={"value": 0.99}).status_code == 200
    assert running.classifier.classify([picture])[0].rejected
    assert client.get("/v1/status").json()["threshold"] == 0.99
    assert read_manifest(running.bundle).decision.reject_threshold is None
    client.post("/v1/threshold", json={"value": 0.5, "keep": True})
    assert read_manifest(running.bundle).decision.reject_threshold == 0.5


def test_a_snapshot_lands_in_its_labels_folder(running, client: TestClient):
    assert client.post("/v1/snapshots", json={"label": "blue dot"}).status_code == 409  # no picture yet
    running.result(5)
    answer = client.post("/v1/snapshots", json={"label": "blue dot"}).json()
    assert answer["snapshots"] == {"blue dot": 1} == client.get("/v1/status").json()["snapshots"]
    with Image.open(running.folder / answer["file"]) as picture:
        assert picture.size == (40, 30) and abs(np.asarray(picture).mean() - 50) < 2
    running.api = dataclasses.replace(running.api, snapshots=None)
    without = TestClient(make_app(running.api), base_url="http://localhost")
    assert without.post("/v1/snapshots", json={"label": "x"}).status_code == 409
    assert without.get("/v1/status").json()["snapshots"] is None


def test_the_page_needs_nothing_from_elsewhere(client: TestClient):
    page = client.get("/")
    assert page.status_code == 200 and "text/html" in page.headers["Content-Type"]
    for name in ("app.js", "style.css"):
        assert f"static/{name}" in page.text
        text = client.get(f"/static/{name}").text
        assert "http:" not in text and "https:" not in text
    assert "http:" not in page.text and "https:" not in page.text
    assert client.get("/static/../api.py").status_code == 404
    assert client.get("/v1/nothing").json() == {"error": "Not Found", "hint": None}
