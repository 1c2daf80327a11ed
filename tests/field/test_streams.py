"""Cameras and streams as they are found: one test per row of what once went wrong."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.config import InferConfig
from rmatk_runtime.inference.loop import Stop, run
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.sources import SourceOptions, SourceState, open_source
from tests.field import servers
from tests.field.servers import SECRET, USER, camera, jpeg

pytest.importorskip("av")


class SlowEngine(Backend):
    """Takes its time for each call, and notes whether it was released meanwhile."""

    name = "slow engine"

    def __init__(self, seconds: float) -> None:
        self.seconds, self.busy, self.released_under_way = seconds, threading.Event(), False

    def embed(self, images: Float32) -> Float32:
        self.busy.set()
        time.sleep(self.seconds)
        self.busy.clear()
        return np.eye(2, dtype=np.float32)[np.zeros(len(images), int)]

    def close(self) -> None:
        self.released_under_way |= self.busy.is_set()


def classifier(engine: Backend) -> Classifier:
    classes = ClassMatrix(("red", "blue"), np.eye(2, dtype=np.float32))
    return Classifier(
        engine,
        PreprocessSpec(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        LabelHead(classes, Decision(logit_scale=1.0), 2),
    )


# --- still pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/snap.jpg", "/cgi-bin/snapshot?channel=1", "/capture"])
@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream"])
def test_still_pictures_are_polled_at_the_rate_asked_for(
    path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        camera(lambda n: jpeg(20 * n % 250), kind=kind) as server,
        caplog.at_level(logging.INFO),
        open_source(f"http://{server.address}{path}", options=SourceOptions(rate=10)) as source,
    ):
        frames = list(islice(source, 5))
        assert source.state is SourceState.LIVE and source.info.live
        assert source.info.size == (64, 48) and source.info.rate == 10
    gaps = np.diff([frame.captured for frame in frames])
    assert gaps.min() > 0.03 and np.median(gaps) == pytest.approx(0.1, abs=0.05)  # one may be late under load
    levels = [int(frame.image[0, 0, 0]) for frame in frames]
    assert levels == sorted(set(levels))
    lines = [record.message for record in caplog.records if record.name.startswith("rmatk_runtime")]
    assert len(lines) == 1 and "single pictures" in lines[0]


@pytest.mark.parametrize("login", ["basic", "digest"])
def test_still_pictures_behind_a_password(login: str, caplog: pytest.LogCaptureFixture) -> None:
    with camera(jpeg, login=login) as server, caplog.at_level(logging.DEBUG):
        uri = f"http://{USER}:{SECRET}@{server.address}/snap.jpg"
        with open_source(uri, options=SourceOptions(rate=10)) as source:
            frames = list(islice(source, 3))
        assert {frame.source for frame in frames} == {f"http://{server.address}/snap.jpg"}
        with pytest.raises(SourceError, match="401") as caught:
            open_source(f"http://{USER}:wrong{SECRET}@{server.address}/snap.jpg")
    assert "user and password" in str(caught.value.hint)
    assert SECRET not in caplog.text + caught.value.message


def test_still_pictures_that_fail_for_a_while_are_no_loss_until_the_timeout() -> None:
    options = SourceOptions(rate=20, timeout=0.5, reconnect=0)
    with camera(lambda n: jpeg(n, noise=9)) as server:
        with open_source(f"http://{server.address}/snap.jpg", options=options) as source:
            frames = iter(source)
            next(frames)
            server.answer = 503
            threading.Timer(0.2, lambda: setattr(server, "answer", None)).start()
            assert next(frames).index >= 1 and source.state is SourceState.LIVE
            server.answer = 500
            with pytest.raises(SourceError, match="the camera answers 500"):
                list(frames)
        assert source.state is SourceState.GAVE_UP


def test_a_still_picture_that_is_damaged_is_skipped_and_counted() -> None:
    def picture(number: int) -> bytes:
        return b"\xff\xd8\xff no picture" if number == 3 else jpeg(number, noise=9)

    with camera(picture) as server:
        uri = f"http://{server.address}/snap.jpg"
        with open_source(uri, options=SourceOptions(rate=20)) as source:
            assert [frame.index for frame in islice(source, 3)][-1] >= 2
            assert source.damaged + source.dropped >= 1


# --- UDP-only RTSP, udp://, srt://, rtmp://, rtp:// -------------------------------------------------------

_SENDER = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=20/1 ! videoconvert"
)
_H264 = f"{_SENDER} ! openh264enc gop-size=10 ! h264parse config-interval=1"


def gst(pipeline: str) -> list[str]:
    return ["gst-launch-1.0", "-q", *pipeline.split()]


def needs(*programs: str) -> None:
    if not servers.has(*programs):
        pytest.skip(f"{', '.join(programs)}: not installed")


def five(uri: str, timeout: float = 10.0) -> list[Frame]:
    """Five frames from a source that may need a moment to begin."""
    end = time.monotonic() + 20
    while True:
        try:
            with open_source(uri, options=SourceOptions(timeout=timeout)) as source:
                return list(islice(source, 5))
        except SourceError as error:
            if time.monotonic() > end or "refused" not in error.message:
                raise
            time.sleep(0.2)


@pytest.mark.debian
def test_rtsp_by_udp_alone() -> None:
    needs(servers.SYSTEM_PYTHON)
    with servers.rtsp("udp") as port:
        frames = five(f"rtsp://{USER}:{SECRET}@127.0.0.1:{port}/ball")
    assert frames[0].image.shape == (240, 320, 3) and len(frames) == 5


@pytest.mark.debian
@pytest.mark.parametrize("kind", ["udp", "tcp", "rtp", "sdp", "rtmp"])
def test_streams_of_every_transport_that_ffmpeg_has(kind: str, tmp_path: Path) -> None:
    needs("gst-launch-1.0")
    port = servers.free_port(socket.SOCK_STREAM if kind in ("tcp", "rtmp") else socket.SOCK_DGRAM)
    uri = f"{kind}://127.0.0.1:{port}"
    sender = {
        "udp": f"{_H264} ! mpegtsmux ! udpsink host=127.0.0.1 port={port}",
        "tcp": f"{_H264} ! mpegtsmux ! tcpserversink host=127.0.0.1 port={port} sync-method=2",
        "rtp": f"{_H264} ! mpegtsmux ! rtpmp2tpay ! udpsink host=127.0.0.1 port={port}",
        "sdp": f"{_H264} ! rtph264pay pt=96 config-interval=1 ! udpsink host=127.0.0.1 port={port}",
    }
    if kind == "sdp":
        uri = str(tmp_path / "camera.sdp")
        Path(uri).write_text(
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=camera\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
            "a=rtpmap:96 H264/90000\n"
        )
    if kind == "rtmp":
        needs("ffmpeg")
        uri += "/live/camera"
        source = "-re -f lavfi -i testsrc=size=320x240:rate=20 -c:v libx264 -g 10 -preset ultrafast"
        command = ["ffmpeg", *source.split(), "-f", "flv", "-listen", "1", uri]
    else:
        command = gst(sender[kind])
    with servers.running(*command):
        frames = five(uri)
    assert frames[0].image.shape == (240, 320, 3) and len(frames) == 5
    assert {frame.source for frame in frames} == {uri}


@pytest.mark.parametrize("scheme", ["srt", "rist"])
def test_a_protocol_that_this_ffmpeg_lacks_is_named_truthfully(scheme: str) -> None:
    import av

    try:
        av.open(f"{scheme}://127.0.0.1:9", timeout=(0.1, 0.1))
    except av.error.ProtocolNotFoundError:
        pass
    except (av.FFmpegError, OSError):
        pytest.skip(f"this FFmpeg has {scheme}")
    with pytest.raises(SourceError, match=f"was built without {scheme}") as caught:
        open_source(f"{scheme}://me:{SECRET}@127.0.0.1:9000")
    assert f"gst:{scheme}src" in str(caught.value.hint) and "password" not in str(caught.value.hint).lower()
    assert SECRET not in caught.value.message


def test_a_stream_without_a_login_hints_at_none() -> None:
    with pytest.raises(SourceError) as caught:
        open_source("rtmp://127.0.0.1:9/live")
    assert "password" not in str(caught.value.hint).lower()


# --- silent cameras ---------------------------------------------------------------------------------------

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


@pytest.mark.parametrize(
    ("uri", "greeting"),
    [("http", b""), ("http", _HEAD), ("rtsp", b""), ("rtmp", b""), ("tcp", b""), ("udp", b"")],
)
def test_a_silent_camera_is_named_as_silent(uri: str, greeting: bytes) -> None:
    with servers.silent(greeting) as port, pytest.raises(SourceError, match="for 0.5 s") as caught:
        open_source(f"{uri}://127.0.0.1:{port}/live", options=SourceOptions(timeout=0.5))
    assert "stays silent" in caught.value.message
    for words in ("Invalid data", "Immediate exit"):
        assert words not in caught.value.message


# --- frozen cameras ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0, 3])
def test_a_frozen_camera_is_told_and_a_static_scene_is_not(
    noise: int, caplog: pytest.LogCaptureFixture
) -> None:
    options = SourceOptions(rate=20, timeout=0.6)
    with (
        camera(lambda n: jpeg(100 if n < 40 else 200, noise=noise)) as server,
        open_source(f"http://{server.address}/snap.jpg", options=options) as source,
        caplog.at_level(logging.WARNING),
    ):
        states = []
        for frame in islice(source, 48):
            states.append((len(server.times), source.state, int(frame.image[0, 0, 0])))
    if noise:
        assert {state for _, state, _ in states} == {SourceState.LIVE} and source.frozen == 0
        return
    assert SourceState.FROZEN in {state for number, state, _ in states if 20 < number < 40}
    assert states[0][1] is states[-1][1] is SourceState.LIVE
    assert 0.6 < source.frozen < 3
    assert [r.message.split()[1:3] for r in caplog.records] == [["is", "frozen:"], ["moves", "again"]]


def test_the_test_pattern_is_never_frozen() -> None:
    with open_source("test://64x48@100", options=SourceOptions()) as source:
        source._options = SourceOptions(timeout=0.05)  # type: ignore[attr-defined]
        assert all(source.state is SourceState.LIVE for _ in islice(source, 30))


def test_a_frozen_camera_in_healthz_and_summary(tiny_bundle: Path) -> None:
    import urllib.error
    import urllib.request

    with camera(lambda n: jpeg(100)) as server:
        arguments = ["--rate", 20, "--timeout", 0.5, "--web", "127.0.0.1:0", "--duration", 6, "--json"]
        process = servers.rmatk(
            "infer", tiny_bundle, "--camera", f"http://{server.address}/s.jpg", *arguments
        )
        assert process.stderr is not None
        address = next(line for line in process.stderr if line.startswith("page: ")).split()[1]
        time.sleep(2.5)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address + "healthz")
        answer = json.load(caught.value)
        summary = json.loads(process.communicate(timeout=60)[0])
    assert caught.value.code == 503 and "frozen" in answer["reason"]
    assert summary["frozen"] > 0.5


# --- an end under way -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "limit", "error"])
def test_the_engine_has_ended_before_a_run_returns(how: str) -> None:
    engine = SlowEngine(1.5)
    stop = Stop()

    class Sink:
        def write(self, frame: Frame, prediction: object) -> None:
            if how == "error":
                raise SourceError("full")

        def idle(self) -> None:
            pass

        def close(self) -> None:
            pass

    if how == "stop":
        threading.Timer(0.3, stop.ask, ["terminated"]).start()
    options = InferConfig(max_frames=1 if how == "limit" else None)
    with ExitStack() as stack:
        ready = stack.enter_context(classifier(engine))
        if how == "error":
            stack.enter_context(pytest.raises(SourceError, match="full"))
        source = open_source("test://64x48@30")
        run(source, ready, [Sink()], options, stop)  # type: ignore[list-item]
    assert not engine.busy.is_set() and not engine.released_under_way
    assert not [thread.name for thread in threading.enumerate() if thread.name == "rmatk-infer"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_ends_while_the_engine_works_is_not_aborted(
    number: signal.Signals, tiny_bundle: Path, tmp_path: Path
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import time\n"
        "from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend as B\n"
        "embed = B.embed\n"
        "def slow(self, images):\n"
        "    end = time.monotonic() + 2\n"
        "    while time.monotonic() < end:\n"
        "        answer = embed(self, images)  # in ONNX Runtime, which gives the interpreter's lock away\n"
        "    return answer\n"
        "B.embed = slow\n"
        "from rmatk.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [
            sys.executable,
            str(script),
            "infer",
            str(tiny_bundle),
            "--camera",
            "test://64x48@30",
            "--jsonl",
            "-",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors.decode()
