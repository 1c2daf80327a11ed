"""Several cameras in one run: names, counts that add up, dead and slow ones, regions, and every output."""

from __future__ import annotations

import csv
import json
import math
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.config import InferConfig
from rmatk_runtime.inference.loop import run
from rmatk_runtime.inference.regions import Regions, parse_region
from rmatk_runtime.inference.summary import Summary
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sources import Source, SourceOptions, open_source, split_name
from tests.field import servers
from tests.field.servers import camera, jpeg
from tools.browser import browser, chromium

pytest.importorskip("av")
SIDE = 8


class Brightness(Backend):
    """Says whether a picture is dark or bright; notes the sizes of batches."""

    name = "fake engine"

    def __init__(self, seconds: float = 0.0) -> None:
        self.sizes: list[int] = []
        self.seconds = seconds

    def embed(self, images: Float32) -> Float32:
        self.sizes.append(len(images))
        time.sleep(self.seconds)
        return np.eye(2, dtype=np.float32)[(images.mean(axis=(1, 2, 3)) > 0.5).astype(int)]


class Kept(Sink):
    """Keeps results."""

    def __init__(self) -> None:
        self.results: list[tuple[Frame, Prediction]] = []

    def write(self, frame: Frame, prediction: Prediction) -> None:
        self.results.append((frame, prediction))

    def of(self, name: str) -> list[int]:
        return [frame.index for frame, _ in self.results if frame.camera == name and frame.last]


def go(
    source: Source, engine: Backend | None = None, regions: Regions | None = None, **options: object
) -> tuple[Summary, Kept]:
    classes = ClassMatrix(("dark", "bright"), np.eye(2, dtype=np.float32))
    head = LabelHead(classes, Decision(logit_scale=math.log(4)), 2)
    spec = PreprocessSpec(SIDE, SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    kept = Kept()
    with source, Classifier(engine or Brightness(), spec, head) as ready:
        return run(source, ready, [kept], InferConfig(**options), regions=regions), kept  # type: ignore[arg-type]


def add_up(summary: Summary) -> None:
    for counts in (summary, *summary.cameras.values()):
        assert counts.captured == counts.frames + counts.damaged + counts.dropped + counts.out_of_range
    if summary.cameras:
        for name in ("frames", "captured", "damaged", "dropped", "out_of_range"):
            assert getattr(summary, name) == sum(getattr(each, name) for each in summary.cameras.values())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    for number in range(5):
        Image.new("RGB", (32, 24), (200, 200, 200)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_names_are_split_from_addresses_and_not_from_paths(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "a=b.mp4").touch()
    assert split_name("front=rtsp://me:pw@cam/live?x=1") == ("front", "rtsp://me:pw@cam/live?x=1")
    assert split_name("belt=0") == ("belt", "0") and split_name("x=clip.mp4") == ("x", "clip.mp4")
    for plain in ("a=b.mp4", "rtsp://cam/?a=b", "gst:videotestsrc num-buffers=3", "no=such.mp4", "x=*.png"):
        assert split_name(plain) == ("", plain)


def test_two_cameras_share_an_engine_and_keep_their_names() -> None:
    engine = Brightness()
    source = open_source("a=test://64x48@50?frames=40", "b=test://32x24@25?frames=20&seed=3")
    summary, kept = go(source, engine)
    assert set(summary.cameras) == {"a", "b"} and summary.ended is None
    assert summary.cameras["a"].captured == 40 and summary.cameras["b"].captured == 20
    for name in "ab":
        assert kept.of(name) == sorted(set(kept.of(name)))
        assert {frame.image.shape[1] for frame, _ in kept.results if frame.camera == name} == {
            64 if name == "a" else 32
        }
    assert max(engine.sizes) <= 2 and summary.cameras["a"].latency is not None
    add_up(summary)


def test_frames_that_wait_go_into_one_batch() -> None:
    engine = Brightness(0.1)  # slower than the cameras
    source = open_source(*(f"c{n}=test://32x24@40?seed={n}" for n in range(4)))
    summary, kept = go(source, engine, duration=2.0)
    assert max(engine.sizes) == 4
    counts = [len(kept.of(f"c{n}")) for n in range(4)]
    assert min(counts) >= max(counts) / 2 > 3
    add_up(summary)


def test_unnamed_cameras_are_named_by_their_addresses_and_twins_numbered() -> None:
    source = open_source("test://32x24@50?frames=3", "test://32x24@50?frames=3", "x=test://32x24@50?frames=3")
    assert list(source.cameras) == ["test://32x24@50?frames=3", "test://32x24@50?frames=3 (2)", "x"]
    add_up(go(source)[0])
    with pytest.raises(SourceError, match="two sources are named x"):
        open_source("x=test://", "x=test://")


def test_of_a_file_beside_a_camera_nothing_is_lost(picture: Path) -> None:
    source = open_source("a=test://32x24@30?frames=10", str(picture))
    summary, kept = go(source, Brightness(0.05))
    name = next(name for name in summary.cameras if name != "a")
    assert kept.of(name) == [0, 1, 2, 3, 4] and summary.cameras[name].frames == 5
    assert summary.cameras[name].dropped == 0 and summary.cameras[name].latency is None
    add_up(summary)


@pytest.fixture
def dead() -> Iterator[list[str]]:
    """Seven addresses: nothing there, nothing that answers, what hangs up, what is no picture, no device."""
    with servers.silent() as first, servers.silent(b"HTTP/1.1 200 OK\r\n\r\nwhat?") as second:
        closed = servers.free_port(socket.SOCK_STREAM)
        yield [
            f"rtsp://127.0.0.1:{closed}/x",
            f"http://127.0.0.1:{closed}/snap.jpg",
            f"rtsp://127.0.0.1:{first}/x",
            f"http://127.0.0.1:{first}/snap.jpg",
            f"tcp://127.0.0.1:{second}",
            f"udp://127.0.0.1:{servers.free_port()}",
            "/dev/video97",
        ]


def test_of_eight_cameras_seven_are_dead(dead: list[str]) -> None:
    start = time.monotonic()
    uris = [f"dead{n}={uri}" for n, uri in enumerate(dead)]
    source = open_source("alive=test://32x24@30", *uris, options=SourceOptions(timeout=1.0))
    assert time.monotonic() - start < 1.0  # none is waited for
    summary, _ = go(source, duration=4.0)
    assert time.monotonic() - start < 8.0
    alive = summary.cameras["alive"]
    assert alive.state == "live" and alive.frames + alive.dropped > 90  # of 120 in four seconds
    assert alive.latency is not None and alive.latency.p50 < 100
    for name, each in summary.cameras.items():
        if name != "alive":
            assert each.state in ("lost", "connecting") and each.frames == each.captured == 0
    add_up(summary)


def test_a_camera_that_gives_up_leaves_the_others_running(caplog: pytest.LogCaptureFixture) -> None:
    port = servers.free_port(socket.SOCK_STREAM)
    uris = ["a=test://32x24@30?frames=60", f"gone=rtsp://127.0.0.1:{port}/x"]
    source = open_source(*uris, options=SourceOptions(reconnect=0))
    with pytest.raises(SourceError, match="cannot open rtsp://127.0.0.1"):
        go(source)
    assert source.cameras["a"].captured == 60 and source.cameras["gone"].state.value == "gave up"
    assert [r.message for r in caplog.records if r.message.startswith("gone: cannot open")]


def test_one_slow_camera_slows_no_other() -> None:
    def slow(number: int) -> bytes:
        if number > 1:
            time.sleep(1.5)
        return jpeg(100, noise=9)

    with camera(slow) as server:
        source = open_source("fast=test://32x24@30", f"slow=http://{server.address}/snap.jpg")
        summary, _ = go(source, duration=4.0)
    assert summary.cameras["fast"].frames + summary.cameras["fast"].dropped > 90
    assert 1 <= summary.cameras["slow"].frames <= 4
    add_up(summary)


def test_a_mistake_in_an_address_is_an_error_at_once() -> None:
    for uri in ("b=foo://x", "b=test://1x1", "b=gst:"):
        with pytest.raises(SourceError):
            open_source("a=test://32x24", uri)


def test_counts_add_up_with_every_and_max_frames() -> None:
    for options in ({"every": 3}, {"max_frames": 7}, {"batch": 1}, {"batch": 8}):
        source = open_source("a=test://32x24@60?frames=30", "b=test://32x24@40?frames=20")
        summary, kept = go(source, **options)
        add_up(summary)
        if options == {"every": 3}:
            assert all(frame.index % 3 == 0 for frame, _ in kept.results)
        if options == {"max_frames": 7}:
            assert summary.frames == 7


# --- regions ----------------------------------------------------------------------------------------------


def test_each_region_is_classified_as_a_picture_of_its_own(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    Image.fromarray(pixels).save(tmp_path / "halves.png")
    regions = Regions(map(parse_region, ("left=0,0,30,40", "right=50%,0%,50%,100%")))
    summary, kept = go(open_source(str(tmp_path / "halves.png")), regions=regions)
    assert [(f.region.name, p.label) for f, p in kept.results] == [("left", "dark"), ("right", "bright")]
    assert summary.frames == 1 and summary.regions == {"left": {"dark": 1}, "right": {"bright": 1}}
    add_up(summary)


def test_regions_of_one_camera_leave_the_others_whole() -> None:
    source = open_source("a=test://64x48@50?frames=10", "b=test://64x48@50?frames=10")
    summary, kept = go(source, regions=Regions([parse_region("a:x=0,0,10,10"), parse_region("a:y=5,5,9,9")]))
    assert {frame.stream for frame, _ in kept.results} == {("a", "x"), ("a", "y"), ("b", "")}
    assert sum(summary.labels.values()) == 2 * summary.cameras["a"].frames + summary.cameras["b"].frames
    add_up(summary)


def test_a_region_outside_the_picture_ends_the_run_with_its_name() -> None:
    with pytest.raises(SourceError, match="region belt=.* is outside the picture"):
        go(open_source("test://64x48@50?frames=10"), regions=Regions([parse_region("belt=60,0,30,30")]))


def test_a_camera_that_changes_size_in_mid_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with camera(lambda n: jpeg(90, noise=9, size=(64, 48) if n < 6 else (128, 96))) as server:
        uri = f"cam=http://{server.address}/snap.jpg"
        source = open_source(uri, options=SourceOptions(rate=20))
        summary, kept = go(source, regions=Regions([parse_region("r=32,0,32,48")]), max_frames=12)
    boxes = {frame.region.box for frame, _ in kept.results}
    assert boxes == {(32, 0, 32, 48), (64, 0, 64, 96)}
    assert "cam: the pictures change from 64x48 to 128x96" in caplog.text
    add_up(summary)


# --- the command ------------------------------------------------------------------------------------------

CAMERAS = ["--camera", "front=test://64x48@30", "--camera", "belt=test://80x60@15"]


def test_every_output_carries_the_name(tiny_bundle: Path, tmp_path: Path) -> None:
    outputs = ["--jsonl", "r.jsonl", "--csv", "r.csv", "--video", "v.mp4", "--images", "im"]
    command = ["infer", tiny_bundle, *CAMERAS, "--region", "belt:left=0%,0%,50%,100%", "--duration", 3]
    process = servers.rmatk(*command, *outputs, "--json", cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    summary = json.loads(out)
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert {(r["camera"], r["region"]) for r in records} == {("front", None), ("belt", "left")}
    with (tmp_path / "r.csv").open(newline="") as file:
        assert [row["camera"] for row in csv.DictReader(file)] == [r["camera"] for r in records]
    for name in ("front", "belt"):
        frames = [record["frame"] for record in records if record["camera"] == name]
        assert len(frames) == summary["cameras"][name]["frames"] > 5
        with open_source(str(tmp_path / f"v-{name}.mp4")) as video:
            assert sum(1 for _ in video) == len(frames)
        assert len(list((tmp_path / "im").glob(f"*-{name}.jpg"))) == len(frames)
    assert summary["outputs"]["video"] == "v-front.mp4, v-belt.mp4"
    assert sum(camera["frames"] for camera in summary["cameras"].values()) == summary["frames"]
    process = servers.rmatk(*command, cwd=tmp_path)  # for people
    out, _ = process.communicate(timeout=60)
    assert "belt left" in out.splitlines()[0] + out.splitlines()[1] + out.splitlines()[2]
    assert "cameras" in out and "region left:" in out


def test_page_health_and_metrics_know_each_camera(tiny_bundle: Path, tmp_path: Path) -> None:
    dead = f"gone=rtsp://127.0.0.1:{servers.free_port(socket.SOCK_STREAM)}/x"
    process = servers.rmatk("infer", tiny_bundle, *CAMERAS, "--camera", dead, "--web", "127.0.0.1:0")
    try:
        assert process.stderr is not None
        address = next(line for line in process.stderr if line.startswith("page: ")).split()[1]
        threading.Thread(target=process.stderr.read, daemon=True).start()
        time.sleep(2)
        ask = lambda path: urllib.request.urlopen(address + path)  # noqa: E731
        cameras = {each["name"]: each for each in json.load(ask("v1/status"))["cameras"]}
        assert {name: each["state"] for name, each in cameras.items()} == {
            "front": "live",
            "belt": "live",
            "gone": "lost",
        }
        assert cameras["front"]["rate"] > 5 and cameras["gone"]["frames"] == 0
        for name, size in (("front", (64, 48)), ("belt", (80, 60))):
            answer = ask(f"v1/frame?camera={name}")
            assert Image.open(answer).size == size
            assert json.loads(answer.headers["X-Rmatk-Result"])["camera"] == name
        assert ask("v1/frame?camera=gone&wait=0").status == 204
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask("healthz")
        assert json.load(caught.value)["reason"] == "gone: the source is lost"
        metrics = ask("metrics").read().decode()
        assert 'rmatk_source_state{camera="gone",rmatk_source_state="lost"} 1.0' in metrics
        assert 'rmatk_frames_total{camera="front"}' in metrics
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="chromium and chromium-driver are not installed")
def test_a_region_is_drawn_on_the_grid_of_cameras(tiny_bundle: Path, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains

    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    process = servers.rmatk("infer", "bundle", *CAMERAS, "--web", "127.0.0.1:0", cwd=tmp_path)
    assert process.stderr is not None
    address = next(line for line in process.stderr if line.startswith("page: ")).split()[1]
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        with browser() as driver:
            driver.get(address)
            find = lambda css: driver.find_elements("css selector", css)  # noqa: E731
            eventually(
                lambda: (
                    [card.get_attribute("data-camera") for card in find("#cameras button")]
                    == ["front", "belt"]
                )
            )
            eventually(lambda: all("per second" in card.text for card in find("#cameras button")))
            find("#cameras button")[1].click()
            eventually(
                lambda: find("#source")[0].text == "test://80x60@15" and find("#boxes")[0].rect["width"] > 99
            )
            boxes = find("#boxes")[0]
            width, height = boxes.rect["width"], boxes.rect["height"]
            mouse = ActionChains(driver).move_to_element_with_offset(boxes, int(-width / 4), int(-height / 4))
            mouse.click_and_hold().move_by_offset(int(width / 2), int(height / 2)).release().perform()
            find("#region-name")[0].send_keys("middle")
            find("#region button")[0].click()
            eventually(lambda: find("#boxes span") and find("#boxes span")[0].text.startswith("middle: "))
            kept = json.loads((tmp_path / "bundle.regions.json").read_text())["regions"]
            assert [(each["camera"], each["name"]) for each in kept] == [("belt", "middle")]
            for text, share in zip(kept[0]["box"], (25, 25, 50, 50), strict=True):
                assert float(text.rstrip("%")) == pytest.approx(share, abs=2)
            find("#regions button")[0].click()
            eventually(lambda: not find("#boxes span"))
            assert driver.get_log("browser") == []
    finally:
        process.kill()
        process.communicate()


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
