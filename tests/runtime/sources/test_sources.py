from __future__ import annotations

import logging
import struct
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import MissingExtraError, SourceError
from rmatk_runtime.pictures.files import natural_key
from rmatk_runtime.sources import Source, SourceOptions, open_source

COLOURS = [(220, 20, 20), (20, 200, 20), (20, 20, 220)]


def save_image(
    path: Path, colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (32, 24)
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def save_video(
    path: Path, frames: int = 7, rate: int = 10, size: tuple[int, int] = (64, 48), noise: bool = False
) -> Path:
    """A clip: red on the left; on the right grey level ``20 i`` in frame ``i``, or noise."""
    random = np.random.default_rng(0)
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options={"movflags": "faststart"} if noise else {}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            pixels = np.full((size[1], size[0], 3), 20 * index, np.uint8)
            if noise:
                pixels[:] = random.integers(0, 255, pixels.shape)
            pixels[:, : size[0] // 2] = (220, 20, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix (a, b, c, d) into the track header of an MP4, as a phone does."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of other fields come before the matrix
    assert struct.unpack_from(">i", data, start)[0] == 1 << 16
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def names(source: Source) -> list[str]:
    with source:
        return [Path(frame.source).name for frame in source]


def test_single_image_is_upright_rgb(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 0, 0), (0, 0, 20, 20))  # red left half
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: red on top
    path = tmp_path / "phone.png"
    picture.save(path, exif=exif)
    with open_source(str(path)) as source:
        (frame,) = source
    assert (source.info.frames, source.info.live) == (1, False)
    assert frame.image.shape == (40, 20, 3) and frame.image.dtype == np.uint8
    assert tuple(frame.image[5, 10]) == (255, 0, 0) and tuple(frame.image[35, 10]) == (0, 0, 0)
    assert (frame.index, frame.time, frame.source) == (0, 0.0, str(path))


def test_folder_is_walked_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/shot10.jpg", "b/shot9.jpg", "b/shot1.PNG", "a/z.bmp", ".thumbs/x.jpg", "b/.y.jpg"):
        save_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert names(open_source(str(tmp_path))) == ["z.bmp", "shot1.PNG", "shot9.jpg", "shot10.jpg"]


def test_natural_key_never_compares_numbers_with_text() -> None:
    texts = ["10a", "9", "a1", "a", "1", "B2", ""]
    assert sorted(texts, key=natural_key) == ["", "1", "9", "10a", "a", "a1", "B2"]


def test_glob_and_several_images_become_one_source(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "10.png", "sub/3.png", "other.jpg"):
        save_image(tmp_path / name)
    assert names(open_source(str(tmp_path / "*.png"))) == ["1.png", "2.png", "10.png"]
    assert names(open_source(str(tmp_path / "**/*.png"))) == ["1.png", "2.png", "10.png", "3.png"]
    assert names(open_source(str(tmp_path / "s*"))) == ["3.png"]  # a folder, as where the shell expands it
    assert names(open_source(str(tmp_path / "**"))) == ["1.png", "2.png", "10.png", "other.jpg", "3.png"]
    source = open_source(str(tmp_path / "2.png"), str(tmp_path / "sub"), str(tmp_path / "1.png"))
    assert source.info.frames == 3
    assert names(source) == ["2.png", "3.png", "1.png"]


@pytest.mark.parametrize("limit", [30, 70])  # 100 pixels: more than twice the limit, and a little more
def test_a_picture_of_too_many_pixels_is_to_be_made_smaller(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "vast.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(SourceError, match=r"vast.png has more than \d+ million pixels") as caught:
        list(open_source(str(tmp_path / "vast.png")))
    assert caught.value.hint == "save it smaller"


def test_unreadable_image_among_many_is_skipped_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_image(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    save_image(tmp_path / "3.png")
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 2]
    assert source.damaged == 1
    assert "2.png" in caplog.text


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_readable_is_an_error(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"{number}.jpg").write_bytes(b"not a picture")
    with open_source(str(tmp_path)) as source, pytest.raises(SourceError, match=r"\.jpg"):
        list(source)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nowhere.jpg", "no such file"),
        ("*.nothing", "nothing matches"),
        ("ftp://user:hunter2@host/x", "ftp://"),
        ("csi://front", "names no CSI camera"),
        ("test://8x8", "at least 16x16"),
        ("test://640x480?speed=3", "not an option"),
        ("test://640x480?frames=-3", "not an option"),
        ("test://wide", "not a test pattern"),
    ],
)
def test_what_cannot_be_opened_is_named(
    uri: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(uri)
    assert caught.value.hint
    assert "hunter2" not in caught.value.message


def test_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no image in"):
        open_source(str(tmp_path))


def test_no_uri_is_an_error() -> None:
    with pytest.raises(SourceError, match="no source"):
        open_source()


def test_video_gives_every_frame_with_its_time(tmp_path: Path) -> None:
    path = save_video(tmp_path / "clip.mp4")
    with open_source(str(path)) as source:
        frames = list(source)
    assert source.info.size == (64, 48) and source.info.rate == 10 and source.info.frames == 7
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in range(7)])
    for index, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8
        assert frame.image[24, 48].astype(int) == pytest.approx(20 * index, abs=6)
        assert frame.image[24, 10].astype(int) == pytest.approx((220, 20, 20), abs=12)


@pytest.mark.parametrize(
    ("matrix", "shape", "red"),
    [
        ((0, 1, -1, 0), (64, 48), (10, 24)),  # shown a quarter turn clockwise: the left edge comes on top
        ((0, -1, 1, 0), (64, 48), (54, 24)),  # counter-clockwise: at the bottom
        ((-1, 0, 0, -1), (48, 64), (24, 54)),  # half a turn: on the right
    ],
)
def test_video_is_turned_upright(
    tmp_path: Path, matrix: tuple[int, int, int, int], shape: tuple[int, int], red: tuple[int, int]
) -> None:
    path = save_video(tmp_path / "phone.mp4", frames=2)
    turn(path, matrix)
    with open_source(str(path)) as source:
        frame = next(iter(source))
    assert frame.image.shape == (*shape, 3)
    assert frame.image[red].astype(int) == pytest.approx((220, 20, 20), abs=12)


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        (SourceOptions(start=0.3), [3, 4, 5, 6]),
        (SourceOptions(start=0.25, stop=0.5), [3, 4]),
        (SourceOptions(stop=0.2), [0, 1]),
        (SourceOptions(stride=3), [0, 3, 6]),
        (SourceOptions(start=0.1, stride=2), [1, 3, 5]),
        (SourceOptions(rate=5), [0, 2, 4, 6]),
        (SourceOptions(rate=100), [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_part_of_a_video(tmp_path: Path, options: SourceOptions, levels: list[int]) -> None:
    path = save_video(tmp_path / "clip.mp4")
    with open_source(str(path), options=options) as source:
        frames = list(source)
    assert [round(int(frame.image[24, 48, 0]) / 20) for frame in frames] == levels
    assert [frame.time for frame in frames] == pytest.approx([level / 10 for level in levels])
    assert [frame.index for frame in frames] == [level - levels[0] for level in levels]
    assert source.info.frames in (None, len(levels)) and source.damaged == 0


def test_start_behind_the_end_is_an_error(tmp_path: Path) -> None:
    path = save_video(tmp_path / "clip.mp4")
    with (
        open_source(str(path), options=SourceOptions(start=9.0)) as source,
        pytest.raises(SourceError, match="--start 9 is after the last frame of .*clip.mp4"),
    ):
        list(source)


def test_looped_files_never_end_and_count_on(tmp_path: Path) -> None:
    video = save_video(tmp_path / "clip.mp4", frames=3)
    with open_source(str(video), options=SourceOptions(loop=True)) as source:
        assert source.info.frames is None
        frames = list(islice(source, 8))
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in range(8)])
    assert [round(int(frame.image[24, 48, 0]) / 20) for frame in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    image = save_image(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"")
    options = SourceOptions(loop=True)
    with open_source(str(video), str(image), str(tmp_path / "broken.png"), options=options) as source:
        frames = list(islice(source, 9))
    assert [Path(frame.source).name for frame in frames] == (["clip.mp4"] * 3 + ["a.png"]) * 2 + ["clip.mp4"]
    assert len({(frame.source, frame.index) for frame in frames}) == 9
    assert source.damaged == 2  # once in each round


def test_every_third_image(tmp_path: Path) -> None:
    for number in range(7):
        save_image(tmp_path / f"{number}.png")
    with open_source(str(tmp_path), options=SourceOptions(stride=3)) as source:
        seen = [(Path(frame.source).name, frame.index) for frame in source]
    assert seen == [("0.png", 0), ("3.png", 3), ("6.png", 6)] and source.info.frames == 3


def test_real_video_has_exactly_its_frames(shared_data: Path) -> None:
    pytest.importorskip("av")
    with open_source(str(shared_data / "video" / "waste_pan_composed.mp4")) as source:
        times = [frame.time for frame in source]
    assert len(times) == source.info.frames == 132
    assert times == pytest.approx([index / 15 for index in range(132)], abs=1e-6)


def test_damaged_videos_are_named(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("this is no video")
    cut = save_video(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:600])
    for name in ("text.mp4", "cut.mp4"):
        with pytest.raises(SourceError, match=name):
            open_source(str(tmp_path / name))


@pytest.mark.parametrize("fill", [b"", b"\xff"])
def test_video_with_a_hole_is_not_passed_off_as_whole(
    tmp_path: Path, fill: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_video(tmp_path / "copy.mp4", frames=12, noise=True)
    data = path.read_bytes()
    half = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    path.write_bytes(data[:half] + fill * (len(data) - half))
    with open_source(str(path)) as source:
        seen = list(source)
    assert (source.captured, source.damaged) == (12, 12 - len(seen))
    assert f"{source.damaged} of its 12 frames are damaged or missing" in caplog.text
    assert 0 < len(seen) < 12


def test_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="holds no video"):
        open_source(str(path))


def test_sources_are_chained_in_the_order_given(tmp_path: Path) -> None:
    video = save_video(tmp_path / "clip.mp4", frames=2)
    image = save_image(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"")
    with open_source(
        str(video), str(image), str(tmp_path / "broken.png"), "test://?frames=1&live=0"
    ) as source:
        seen = [(Path(frame.source).name, frame.index) for frame in source]
    assert seen == [("clip.mp4", 0), ("clip.mp4", 1), ("a.png", 0), ("?frames=1&live=0", 0)]
    assert source.info.frames == 5 and source.damaged == 1 and not source.info.live
    with open_source(str(image), "test://") as beside_a_camera:
        assert beside_a_camera.info.live and not beside_a_camera.cameras[str(image)].info.live


def test_video_without_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    for uri in (str(tmp_path / "clip.mp4"), "0", "rtsp://host/stream"):
        with pytest.raises(MissingExtraError) as caught:
            open_source(uri)
        assert caught.value.hint == "pip install 'rmatk[camera]'"


def test_pattern_is_repeatable_and_moves() -> None:
    def frames(uri: str) -> list[np.ndarray]:
        with open_source(uri) as source:
            return [frame.image for frame in source]

    uri = "test://96x64@25?frames=5&seed=3&live=0"
    first, again, other = frames(uri), frames(uri), frames(uri.replace("seed=3", "seed=4"))
    assert len(first) == 5 and first[0].shape == (64, 96, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[0], other[0])


def test_live_pattern_is_paced_and_still_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("rmatk_runtime.sources.pattern.time.sleep", waits.append)
    with open_source("test://64x64@20?frames=4") as live:
        assert live.info.live
        assert 1 <= len(list(live)) + live.dropped == 4
    assert waits == pytest.approx([0, 0.05, 0.1, 0.15], abs=0.05)
    waits.clear()
    with open_source("test://64x64@20?frames=4&live=0") as still:
        assert not still.info.live
        assert [frame.time for frame in still] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert not waits
