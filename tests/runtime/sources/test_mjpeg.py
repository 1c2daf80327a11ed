from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rmatk_runtime.errors import SourceError
from rmatk_runtime.sources import SourceOptions, open_source
from rmatk_runtime.sources.live import LiveSource
from rmatk_runtime.sources.mjpeg import split_jpegs


def jpeg(level: int, **settings: object) -> bytes:
    """A noisy grey picture of about this level, so that its data holds 0xFF bytes; may carry a thumbnail."""
    random = np.random.default_rng(level)
    pixels = random.integers(max(0, level - 20), min(255, level + 20), (48, 64, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95, **settings)
    return data.getvalue()


PLAIN, PROGRESSIVE = jpeg(60), jpeg(120, progressive=True)
RESTARTS = jpeg(200, restart_marker_blocks=2)
WITH_THUMBNAIL = PLAIN[:2] + b"\xff\xe1" + (2 + len(RESTARTS)).to_bytes(2, "big") + RESTARTS + PLAIN[2:]
PICTURES = [PLAIN, PROGRESSIVE, RESTARTS, WITH_THUMBNAIL]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(PICTURES), max_size=5),
    st.sampled_from([b"", b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\xff\xff\x00"]),
    st.integers(1, 5000),
)
def test_pictures_come_out_whole_however_the_stream_is_cut(
    pictures: list[bytes], between: bytes, size: int
) -> None:
    stream = between + b"".join(picture + between for picture in pictures)
    chunks = (stream[start : start + size] for start in range(0, len(stream), size))
    assert list(split_jpegs(chunks)) == pictures


def test_a_picture_is_given_with_its_last_byte() -> None:
    given_so_far: list[bytes | None] = []

    def chunks() -> Iterator[bytes]:
        yield PLAIN[:-1]
        assert not given_so_far
        yield PLAIN[-1:]
        assert given_so_far == [PLAIN]

    for picture in split_jpegs(chunks()):
        given_so_far.append(picture)
    assert given_so_far == [PLAIN]


def test_a_picture_cut_short_is_told_and_the_next_is_whole() -> None:
    cut = PLAIN[: len(PLAIN) // 2]
    assert list(split_jpegs([cut + PROGRESSIVE])) == [None, PROGRESSIVE]


@pytest.mark.parametrize("head", [b"", PLAIN[:-2]])
def test_something_else_than_jpeg_is_noticed(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmatk_runtime.sources.mjpeg._LONGEST", 2 << 20)
    with pytest.raises(SourceError, match="no JPEG in 2 MiB"):
        list(split_jpegs([head, *[bytes(1 << 16)] * 40]))


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The writing end of standard input."""
    ours, theirs = os.pipe()
    with os.fdopen(ours) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield theirs


def test_pictures_on_standard_input(pipe: int) -> None:
    os.write(pipe, PLAIN + PLAIN[:-100] + PLAIN)
    os.close(pipe)
    with open_source("-") as source:
        frames = list(source)
    assert source.info.live and frames[-1].source == "stdin"
    assert frames[-1].index == 2 and source.damaged == 1 and len(frames) + source.dropped == 2
    with Image.open(io.BytesIO(PLAIN)) as expected:
        assert np.array_equal(frames[-1].image, np.asarray(expected))


def test_a_silent_pipe_is_lost_and_an_empty_one_an_error(pipe: int) -> None:
    with (
        open_source("-", options=SourceOptions(timeout=0.2)) as source,
        pytest.raises(SourceError, match="lost stdin: no picture for 0.2 s"),
    ):
        list(source)
    os.close(pipe)
    with open_source("-") as source, pytest.raises(SourceError, match="stdin ended without a JPEG"):
        list(source)


def test_closing_does_not_wait_for_the_pipe(pipe: int) -> None:
    os.write(pipe, PLAIN)
    source = open_source("-")
    next(iter(source))
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 5
    assert isinstance(source, LiveSource) and source._reading is not None and source._reading.join(5)
    os.close(pipe)


def test_a_terminal_is_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    primary, terminal = os.openpty()
    with os.fdopen(terminal) as stdin, os.fdopen(primary, "w"):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(SourceError, match="which is a terminal") as caught:
            open_source("-")
    assert "jpegenc" in str(caught.value.hint)


def test_a_pipe_cannot_be_told_to_reconnect() -> None:
    with pytest.raises(SourceError, match="stdin does not support --reconnect"):
        open_source("-", options=SourceOptions(reconnect=3))


@pytest.mark.debian
@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="apt-get install gstreamer1.0-tools")
@pytest.mark.parametrize("mux", ["", "! multipartmux"])
def test_a_cameras_own_program_is_piped_in(mux: str) -> None:
    code = (
        "from rmatk_runtime.sources import open_source\n"
        "with open_source('-') as source:\n"
        "    *_, last = source\n"
        "print(last.index, last.image.shape, last.source, source.damaged)\n"
    )
    pipeline = (
        f"videotestsrc is-live=true num-buffers=12 ! video/x-raw,width=96,height=64 ! jpegenc {mux} ! fdsink"
    )
    with subprocess.Popen(["gst-launch-1.0", "-q", *pipeline.split()], stdout=subprocess.PIPE) as camera:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=camera.stdout,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
    assert done.stdout == "11 (64, 96, 3) stdin 0\n", done.stderr
