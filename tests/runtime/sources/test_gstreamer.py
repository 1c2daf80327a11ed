"""GStreamer pipelines, run by the real gst-launch-1.0."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import SourceError
from rmatk_runtime.sources import SourceOptions, SourceState, open_source
from rmatk_runtime.sources.gstreamer import csi_pipeline

SECRET = "hunter" + "2"  # in two parts, since a traceback quotes this file
ONCE = SourceOptions(reconnect=0, timeout=20)

absent = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None,
    reason="apt-get install gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad}",
)


def children() -> set[str]:
    """Command lines of this process's children, zombies with theirs empty."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path("/proc", child, "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "gst-launch" in command or not command:
                found.add(command)
    return found


@absent
@pytest.mark.debian
@pytest.mark.parametrize(("width", "height"), [(320, 240), (321, 99)])  # 963 bytes a row: not a multiple of 4
def test_pictures_are_exactly_those_of_the_pipeline(tmp_path: Path, width: int, height: int) -> None:
    pipeline = f"videotestsrc pattern=smpte num-buffers=3 ! video/x-raw,width={width},height={height}"
    with open_source(f"gst:{pipeline}", options=ONCE) as source:
        frames = list(source)
    assert source.info.size == (width, height) and source.info.live
    assert frames[-1].index == 2 and len(frames) + source.dropped == 3
    image = frames[-1].image
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    bars = [tuple(image[height // 3, (2 * bar + 1) * width // 14]) for bar in range(7)]
    colours = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)]
    assert [tuple(int(value > 90) for value in bar) for bar in bars] == colours
    assert (
        np.ptp(image[: height // 2, width // 28 : width // 14].astype(int), axis=(0, 1)).max() <= 4
    )  # no skew
    assert not children()


@absent
@pytest.mark.debian
def test_a_live_pipeline_is_closed_at_once_and_leaves_no_child() -> None:
    source = open_source("gst:videotestsrc is-live=true ! video/x-raw,framerate=50/1", options=ONCE)
    frames = list(islice(source, 5))
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    assert frames[-1].captured <= time.monotonic() and source.state is SourceState.LIVE
    assert len(children()) == 1
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 5
    assert not children()


@absent
@pytest.mark.debian
def test_size_and_rate_are_asked_of_the_pipeline() -> None:
    options = SourceOptions(size=(160, 120), rate=25, rotate=90, reconnect=0)
    with open_source("gst:videotestsrc is-live=true", options=options) as source:
        assert source.info.size == (120, 160)
        frames = list(islice(source, 6))
    assert frames[0].image.shape == (160, 120, 3)
    assert frames[-1].time >= (frames[-1].index - 1) / 25 * 0.5


@absent
@pytest.mark.debian
@pytest.mark.parametrize(
    ("pipeline", "message", "hint"),
    [
        ("nosuch", 'cannot start gst:nosuch: no element "nosuch"', "look for the package that has nosuch"),
        ("v4l2src device=/dev/video97", "v4l2src0: Cannot identify device '/dev/video97'", "gst-launch-1.0"),
        ("videotestsrc ! jpegenc", "could not link", "decodebin"),
        ("videotestsrc ! fakesink", "could not link", "leave out the sink"),
        ("videotestsrc num-buffers=0", "ended without a picture", "gst-launch-1.0"),
        ("videotestsrc colour=red", 'no property "colour"', "gst-launch-1.0"),
        (
            "videotestsrc ! decodebin ! video/x-raw,width=77",
            "Internal data stream error. (not-",
            "gst-launch-1.0",
        ),
    ],
)
def test_a_pipeline_that_does_not_start_is_told_in_gstreamers_words(
    pipeline: str, message: str, hint: str
) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(f"gst:{pipeline}", options=ONCE)
    assert message in caught.value.message and hint in str(caught.value.hint)
    assert not children()


@absent
@pytest.mark.debian
def test_a_pipeline_that_fails_later_is_lost_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = "gst:videotestsrc is-live=true ! identity error-after=4"
    with open_source(pipeline, options=SourceOptions(timeout=20, reconnect=1)) as source:
        frames = list(islice(source, 5))  # more than one run gives
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    assert "identity0: Failed after iterations as requested" in caplog.text
    assert "gst:videotestsrc ! identity is live again" in caplog.text


@absent
@pytest.mark.debian
def test_a_pipeline_that_stalls_is_lost() -> None:
    # A valve drops everything: the pipeline runs, and nothing comes
    with pytest.raises(SourceError, match="cannot start .*: no picture for 1 s"):
        open_source("gst:videotestsrc is-live=true ! valve drop=true", options=SourceOptions(timeout=1))
    assert not children()


@absent
@pytest.mark.debian
def test_no_credentials_of_a_pipeline_are_told(caplog: pytest.LogCaptureFixture) -> None:
    uri = f"gst:rtspsrc location=rtsp://me:{SECRET}@127.0.0.1:9/x?token={SECRET} user-pw={SECRET} ! decodebin"
    with pytest.raises(SourceError) as caught:
        open_source(uri, options=ONCE)
    assert caught.value.message.startswith("cannot start gst:rtspsrc ! decodebin: rtspsrc0: Could not open")
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text


@absent
@pytest.mark.debian
def test_a_csi_camera_on_a_jetson_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmatk_runtime.sources.gstreamer.jetson_model", lambda: "NVIDIA Jetson")
    with pytest.raises(SourceError, match='csi://0: no element "nvarguscamerasrc"') as caught:
        open_source("csi://0", options=ONCE)
    assert caught.value.hint == "sudo apt-get install nvidia-l4t-gstreamer"


def test_a_csi_camera_without_a_jetson_asks_for_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmatk_runtime.sources.gstreamer.jetson_model", lambda: None)
    for path in (os.environ["PATH"], "/nowhere"):  # with GStreamer, where it is, and without
        monkeypatch.setenv("PATH", path)
        with pytest.raises(SourceError, match="csi://0") as caught:
            open_source("csi://0", options=ONCE)
        assert caught.value.hint == "CSI cameras are for Jetson boards; a USB camera is --camera 0"


def test_without_gstreamer_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceError, match="needs gst-launch-1.0, which is not installed") as caught:
        open_source("gst:videotestsrc")
    assert "gstreamer1.0-tools" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gst:", "names no pipeline"),
        ("gst:videotestsrc pattern='", "cannot be split into words"),
        ("csi://front", "names no CSI camera"),
    ],
)
def test_what_is_no_pipeline_is_refused(uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(uri)


def test_csi_pipeline_asks_the_sensor_for_size_rate_and_turn() -> None:
    options = SourceOptions(size=(1920, 1080), rate=29.97, rotate=180)
    assert " ".join(csi_pipeline(1, options)) == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=1920,height=1080,framerate=2997/100 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx"
    )
    assert "width=1280,height=720,framerate=30/1" in " ".join(csi_pipeline(0, SourceOptions()))


# What nvvidconv's numbers mean (NVIDIA, Accelerated GStreamer), in the words of videoflip: identity,
# counter-clockwise, 180 degrees, clockwise, horizontal, upper right diagonal, vertical, upper left diagonal
DIRECTIONS = ("identity", "90l", "180", "90r", "horiz", "ur-ll", "vert", "ul-lr")


@absent
@pytest.mark.debian
@pytest.mark.parametrize("flip", [None, "horizontal", "vertical"])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_the_hardware_turns_as_numpy_does(tmp_path: Path, flip: str | None, rotate: int) -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, :24] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(picture).save(tmp_path / "a.png")
    options = SourceOptions(flip=flip, rotate=rotate)
    number = int(next(word for word in csi_pipeline(0, options) if "flip-method" in word).partition("=")[2])
    pipeline = f"filesrc location={tmp_path}/a.png ! pngdec ! videoconvert ! videoflip"
    with open_source(f"gst:{pipeline} video-direction={DIRECTIONS[number]}", options=ONCE) as source:
        (frame,) = source
    assert np.array_equal(frame.image, options.turn(picture))
