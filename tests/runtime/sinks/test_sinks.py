from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import RmatkError, SinkError, StorageError
from rmatk_runtime.frames import Frame, Prediction, Score
from rmatk_runtime.sinks import CsvSink, ImagesSink, JsonlSink, Sink, TerminalSink, VideoSink
from rmatk_runtime.sinks.annotate import annotate
from rmatk_runtime.sources import open_source

SURE = Prediction((Score("glass", 0.75), Score("métal, “tin”", 0.2)))
UNSURE = Prediction((Score("glass", 0.3), Score("metal", 0.2)), rejected=True)


def make_frame(
    index: int = 0,
    *,
    time: float | None = None,
    size: tuple[int, int] = (320, 240),
    source: str = "a/clip.mp4",
) -> Frame:
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    return Frame(image, index, index / 10 if time is None else time, source)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Make writes beyond ``size`` bytes fail half-way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_jsonl_lines_are_there_before_close(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with JsonlSink(path) as sink:
        sink.write(make_frame(0), replace(SURE, latency=0.0123456))
        sink.write(make_frame(1), UNSURE)
        text = path.read_text()
    first, second = map(json.loads, text.splitlines())
    assert first.pop("captured_at")[-1] == second["captured_at"][-1] == "Z"
    assert first == {
        "frame": 0,
        "time": 0.0,
        "source": "a/clip.mp4",
        "camera": None,
        "region": None,
        "label": "glass",
        "rejected": False,
        "latency_ms": 12.346,
        "top": [
            {"label": "glass", "probability": 0.75},
            {"label": "métal, “tin”", "probability": 0.2},
        ],
    }
    assert (second["time"], second["label"], second["rejected"]) == (0.1, None, True)
    assert second["latency_ms"] is None


def test_csv_has_a_heading_and_quotes_labels(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with CsvSink(path) as sink:
        sink.write(make_frame(0), SURE)
        sink.write(make_frame(1), UNSURE)
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == [
        *("frame", "time", "captured_at", "source", "camera", "region"),
        *("label", "rejected", "latency_ms"),
        *("label_1", "probability_1", "label_2", "probability_2"),
    ]
    assert first["label_2"] == "métal, “tin”" and float(first["probability_1"]) == 0.75
    assert (second["frame"], second["label"], second["rejected"]) == ("1", "", "True")


@pytest.mark.parametrize("kind", [JsonlSink, CsvSink])
def test_full_disk_leaves_whole_lines(tmp_path: Path, kind: type[Sink]) -> None:
    path = tmp_path / "out"
    sink = kind(path)
    with file_size_limit(1000), pytest.raises(StorageError, match="out"), sink:
        for index in range(100):
            sink.write(make_frame(index), SURE)
    data = path.read_bytes()
    assert 500 < len(data) < 1000 and data.endswith(b"\n")


def test_full_disk_is_named() -> None:
    with (
        JsonlSink("/dev/full") as sink,
        pytest.raises(StorageError, match="disk full while writing /dev/full"),
    ):
        sink.write(make_frame(), SURE)


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=str(tmp_path)):
        JsonlSink(tmp_path)


def test_terminal_and_dash_write_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalSink() as lines, JsonlSink("-") as records:
        lines.write(make_frame(12), SURE)
        lines.write(make_frame(13), UNSURE)
        records.write(make_frame(14), SURE)
    one, two, three = capsys.readouterr().out.splitlines()
    assert " ".join(one.split()) == "a/clip.mp4 12 1.200 s glass 75.0% métal, “tin” 20.0%"
    assert "unsure: glass 30.0%" in two
    assert json.loads(three)["frame"] == 14


def test_reader_that_goes_away_is_an_error_without_python_complaining() -> None:
    code = """if True:
        import numpy as np
        from rmatk_runtime.errors import SinkError
        from rmatk_runtime.frames import Frame, Prediction, Score
        from rmatk_runtime.sinks import TerminalSink
        frame = Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0, "x")
        try:
            while True:
                TerminalSink().write(frame, Prediction((Score("a", 1.0),)))
        except SinkError as error:
            raise SystemExit(7)
    """
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 7


def write_video(path: Path, frames: list[Frame], rate: float | None = None) -> list[Frame]:
    """Write and read back."""
    pytest.importorskip("av")
    with VideoSink(path, rate=rate) as sink:
        for frame in frames:
            sink.write(frame, SURE)
    with open_source(str(path)) as source:
        return list(source)


def test_video_keeps_number_times_and_size(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.5, 0.6]  # frames 3 and 4 were left out
    path = tmp_path / "out.mp4"
    read = write_video(path, [make_frame(n, time=time, size=(321, 241)) for n, time in enumerate(times)])
    assert [frame.time for frame in read] == pytest.approx(times, abs=1e-4)
    assert read[0].image.shape == (242, 322, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_video_of_images_steps_at_its_rate_and_fits_other_sizes(tmp_path: Path) -> None:
    frames = [
        make_frame(n, time=0.0, size=size) for n, size in enumerate([(320, 240), (300, 600), (800, 300)])
    ]
    read = write_video(tmp_path / "out.mkv", frames, rate=4)
    assert [frame.time for frame in read] == pytest.approx([0, 0.25, 0.5], abs=2e-3)
    assert all(frame.image.shape == (240, 320, 3) for frame in read)
    assert read[1].image[120, 20] == pytest.approx(0, abs=8)  # bars beside the tall picture
    assert read[1].image[20, 160] == pytest.approx(200, abs=8)


def test_video_goes_on_in_time_when_the_next_file_starts(tmp_path: Path) -> None:
    frames = [make_frame(n, time=time) for n, time in enumerate([0.0, 0.1, 0.0, 0.5])]
    times = [frame.time for frame in write_video(tmp_path / "out.mp4", frames, rate=10)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.7], abs=1e-4)


def test_video_without_x264_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", frozenset())
    assert len(write_video(tmp_path / "out.mp4", [make_frame(n) for n in range(3)])) == 3
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


def test_video_appears_only_when_closed(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "out.mp4"
    path.write_bytes(b"yesterday's")
    sink = VideoSink(path, rate=10)
    sink.write(make_frame(0), SURE)
    assert path.read_bytes() == b"yesterday's"
    sink.close()
    sink.close()
    assert path.read_bytes() != b"yesterday's"
    assert list(tmp_path.iterdir()) == [path]


def test_video_without_frames_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av")
    VideoSink(tmp_path / "out.mp4").close()
    assert not list(tmp_path.iterdir())


def test_video_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av")
    random = np.random.default_rng(0)
    sink = VideoSink(tmp_path / "out.mp4", rate=10)
    with file_size_limit(20_000), pytest.raises(RmatkError, match=r"out\.mp4"), sink:
        for index in range(60):
            noise = random.integers(0, 255, (240, 320, 3)).astype(np.uint8)
            sink.write(Frame(noise, index, index / 10, "noise"), SURE)
    assert not list(tmp_path.iterdir())


def test_video_of_unknown_suffix_is_refused_at_once(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(SinkError, match=r"\.mp4") as caught:
        VideoSink(tmp_path / "out.jpg")
    assert str(tmp_path / "out.mp4") in str(caught.value.hint)


def test_images_are_numbered_and_keep_the_name(tmp_path: Path) -> None:
    with ImagesSink(tmp_path / "new") as sink:
        for source in ("a/can.jpg", "b/can.jpg", "rtsp://cam:554/live 1"):
            sink.write(make_frame(0, source=source), SURE)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["000000-can.jpg", "000001-can.jpg", "000002-live_1.jpg"]
    with Image.open(tmp_path / "new" / names[0]) as image:
        assert (image.format, image.size) == ("JPEG", (320, 240))


def test_annotation_draws_bars_as_long_as_probabilities() -> None:
    frame = make_frame(size=(640, 480)).image
    drawn = annotate(frame, SURE)
    assert drawn.shape == frame.shape and drawn.dtype == np.uint8
    assert (frame == 200).all()  # the frame itself is left alone
    assert (drawn[:300] == 200).all() and (drawn[:, 500:] == 200).all()
    green = (np.abs(drawn.astype(int) - (46, 160, 103)).max(axis=2) < 8).any(axis=0)
    right = np.flatnonzero(green).max()
    panel = np.flatnonzero((drawn[-1] != 200).any(axis=1)).max()
    assert right / panel == pytest.approx(0.75, abs=0.03)


def test_annotation_of_a_rejected_frame_has_no_colour() -> None:
    drawn = annotate(make_frame(size=(640, 480)).image, UNSURE).astype(int)
    assert (drawn.max(axis=2) - drawn.min(axis=2)).max() < 20
    assert not (drawn == 200).all()


@pytest.mark.parametrize(
    ("size", "shape"), [((64, 64), (256, 256)), ((100, 20), (60, 300)), ((300, 10), (10, 300))]
)
def test_small_frames_are_enlarged_to_be_read(size: tuple[int, int], shape: tuple[int, int]) -> None:
    long = Prediction(tuple(Score("a very long label " * 9, 0.3) for _ in range(3)))
    assert annotate(make_frame(size=size).image, long).shape == (*shape, 3)
