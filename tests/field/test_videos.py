"""Videos as they are found: one test per row of what once went wrong, and the kinds beside them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.sinks import VideoSink
from rmatk_runtime.sources import Source, SourceOptions, names_files, open_source
from rmatk_runtime.sources.pyav import pixel_ratio
from tests.field.clips import av, orient, overwrite, packets, picture, save

GREEN, RED = (20, 200, 20), (220, 20, 20)


def read(*uris: object, **options: object) -> tuple[list[Frame], Source]:
    """All frames, and the source with its counts, which add up."""
    with open_source(*map(str, uris), options=SourceOptions(**options)) as source:  # type: ignore[arg-type]
        frames = list(source)
    given = len(frames)
    assert source.captured == given + source.damaged + source.dropped + source.out_of_range
    return frames, source


def levels(frames: list[Frame]) -> list[int]:
    """The numbers of the pictures, which their grey says."""
    return [round(float(frame.image[:, frame.image.shape[1] // 2 + 4 :].mean()) / 2) for frame in frames]


def near(pixel: UInt8, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() < 25)


@pytest.mark.parametrize("ending", ["ts", "mpg"])
def test_glued(ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codec = "mpeg1video" if ending == "mpg" else "libx264"
    parts = [save(tmp_path / f"{n}.{ending}", 60, codec=codec, rate=25, first=n * 20) for n in (0, 1)]
    glued = tmp_path / f"glued.{ending}"
    glued.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, source = read(glued)
    assert (len(frames), source.damaged) == (120, 0)
    times = [frame.time for frame in frames]
    assert np.diff(times) == pytest.approx([1 / 25] * 119, abs=0.002 if ending == "ts" else 0.05)
    assert caplog.text.count("timestamps jump") == 1
    for start, stop in ((1.6, None), (3.2, 4.0)):
        part, _ = read(glued, start=start, stop=stop)
        wanted = [n for n, time in enumerate(times) if start - 0.001 <= time < (stop or 99) - 0.001]
        assert [frame.time for frame in part] == pytest.approx([times[n] for n in wanted], abs=0.002)
        assert levels(part) == [levels(frames)[n] for n in wanted]


def test_a_leap_ahead_is_closed_where_the_format_allows_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    early = save(tmp_path / "a.ts", 20)
    late = save(tmp_path / "b.ts", 20, stamps=[6000 + n for n in range(20)])
    (tmp_path / "glued.ts").write_bytes(early.read_bytes() + late.read_bytes())
    frames, _ = read(tmp_path / "glued.ts")
    assert len(frames) == 40 and frames[-1].time == pytest.approx(3.9, abs=0.01)
    assert "timestamps jump by +" in caplog.text
    pause = save(tmp_path / "pause.mp4", 4, stamps=[0, 1, 600, 601])
    assert [frame.time for frame in read(pause)[0]] == pytest.approx([0, 0.1, 60, 60.1])


@pytest.mark.parametrize("ratio", [None, Fraction(2)])
@pytest.mark.parametrize(
    ("matrix", "exif"),
    [
        ((1, 0, 0, 1), 1), ((-1, 0, 0, 1), 2), ((-1, 0, 0, -1), 3), ((1, 0, 0, -1), 4),
        ((0, 1, 1, 0), 5), ((0, 1, -1, 0), 6), ((0, -1, -1, 0), 7), ((0, -1, 1, 0), 8),
    ],
)  # fmt: skip
def test_mirrored(
    matrix: tuple[int, int, int, int], exif: int, ratio: Fraction | None, tmp_path: Path
) -> None:
    """All eight orientations, as a photo with the same EXIF orientation is shown; wide pixels too."""
    wide = 2 if ratio else 1
    photo = tmp_path / "photo.png"
    tag = Image.Exif()
    tag[0x0112] = exif
    Image.fromarray(picture(40).repeat(wide, axis=1)).save(photo, exif=tag)
    clip = orient(save(tmp_path / "clip.mp4", 2, first=40, ratio=ratio), matrix)
    (shown,), (frame, _) = read(photo)[0], read(clip)[0]
    assert frame.image.shape == shown.image.shape
    assert np.abs(frame.image.astype(int) - shown.image).mean() < 6


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        (Fraction(16, 11), (93, 48)),
        (Fraction(1, 2), (64, 96)),
        (Fraction(1), (64, 48)),
        (Fraction(90), (64, 48)),
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "ts", "mkv"])
def test_pixel_shape(ratio: Fraction, size: tuple[int, int], ending: str, tmp_path: Path) -> None:
    clip = save(tmp_path / f"a.{ending}", 3, ratio=ratio)
    frames, source = read(clip)
    assert source.info.size == size and frames[0].image.shape == (size[1], size[0], 3)
    assert near(frames[0].image[4, 4], GREEN) and near(frames[0].image[-4, size[0] // 4], RED)


def test_pixel_shape_counts_in_the_annotated_video(tmp_path: Path) -> None:
    from rmatk_runtime.frames import Prediction, Score

    with VideoSink(tmp_path / "out.mp4", rate=10) as sink:
        for frame in read(save(tmp_path / "a.mp4", 3, ratio=Fraction(16, 11)))[0]:
            sink.write(frame, Prediction((Score("x", 1.0),)))
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.width / stream.height == pytest.approx(93 / 48, abs=0.02)
        assert pixel_ratio(stream) in (None, 1)


def test_trimmed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An MP4 with an edit list: the packets before it are decoded, not shown, and not missing."""
    whole = save(tmp_path / "whole.mp4", 40, g="40")
    trimmed = tmp_path / "trimmed.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            packet.pts, packet.dts = (stamp - 20 * 1024 for stamp in (packet.pts, packet.dts))
            packet.stream = stream
            target.mux(packet)
    assert b"elst" in trimmed.read_bytes()
    frames, found = read(trimmed)
    assert 0 < len(frames) < 40
    assert levels(frames) == pytest.approx(list(range(40 - len(frames), 40)), abs=1)
    assert (found.damaged, found.info.frames) == (0, len(frames)) and not caplog.records


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_one_bad_packet(ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = save(tmp_path / f"a.{ending}", 300, noise=60, size=(160, 120), g="1", bf="0", qp="10")
    where, size = packets(clip)[150]
    assert size > 3200
    overwrite(clip, where + 100, 3000)
    frames, source = read(clip)
    assert (len(frames), source.damaged, source.captured) == (299, 1, 300)
    assert "1 of its 300 frames are damaged or missing" in caplog.text


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_many_bad_packets(ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes overwritten over several packets and what frames them: what is lost is counted all the same."""
    clip = save(tmp_path / f"a.{ending}", 300, noise=4, g="25")
    overwrite(clip, clip.stat().st_size // 2, 3000)
    frames, source = read(clip)
    assert source.captured == 300 and 0 < source.damaged < 150 and len(frames) > 150
    assert f"{source.damaged} of its 300 frames" in caplog.text


@pytest.mark.parametrize("ending", ["avi", "mkv", "mov"])
@pytest.mark.parametrize("damage", ["zeroed", "cut", "noise"])
def test_damaged_pictures(ending: str, damage: str, tmp_path: Path) -> None:
    clip = save(tmp_path / f"a.{ending}", 30, codec="mjpeg", kind="yuvj420p", noise=40)
    data = bytearray(clip.read_bytes())
    for start, size in packets(clip)[5:15:5]:
        jpeg = data.index(b"\xff\xd8\xff", start)
        scan = data.index(b"\xff\xda", jpeg) + 14
        half, end = (scan + jpeg + size) // 2, jpeg + size - 8
        filling = {
            "zeroed": bytes(end - half),
            "cut": b"\xff\xd9" + bytes(end - half - 2),
            "noise": b"\x5a\xa5",
        }
        data[half:end] = (filling[damage] * (end - half))[: end - half]
    clip.write_bytes(data)
    frames, source = read(clip)
    assert (len(frames), source.damaged) == (28, 2)


def test_whole_pictures_of_mjpeg_are_all_given(tmp_path: Path) -> None:
    frames, source = read(save(tmp_path / "a.avi", 30, codec="mjpeg", kind="yuvj420p", noise=40))
    assert (len(frames), source.damaged) == (30, 0)


@pytest.mark.parametrize("ending", ["mp3", "mp4"])
def test_cover_art(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"song.{ending}"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp3" if ending == "mp3" else "aac", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(3), format="rgb24")))
        container.mux(cover.encode())
        samples = np.zeros((1, 44100), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with pytest.raises(SourceError, match="holds no video"):
        open_source(str(path))


NAMES = [
    "2026-05-01T12:30:00.mp4",
    "rtsp:x.mp4",
    "file:x.mp4",
    "concat:a|b.mp4",
    "-x.mp4",
    "gst:x.mp4",
    "a%03d?.mp4",
]


@pytest.mark.parametrize("name", [*NAMES, "a%03d?.mp4", "caf\udce9.mp4"])
def test_names_with_a_colon(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("plain.mp4"), 3).rename(name)
    assert names_files(name)
    frames, _ = read(name)
    assert len(frames) == 3 and frames[0].source == name.replace("\udce9", "\\xe9")
    assert len(read(tmp_path / "*.mp4")[0]) == 3


def test_names_with_a_colon_are_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rmatk_runtime.frames import Prediction, Score

    monkeypatch.chdir(tmp_path)
    with VideoSink(Path("12:30.mp4")) as sink:
        sink.write(Frame(picture(1), 0, 0.0, "x"), Prediction((Score("x", 1.0),)))
    assert len(read("12:30.mp4")[0]) == 1


def test_an_address_of_a_file_is_a_path(tmp_path: Path) -> None:
    clip = save(tmp_path / "a clip.mp4", 3)
    assert len(read(clip.as_uri())[0]) == 3


def test_a_clip_in_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "photo1.png")
    save(tmp_path / "photo2.mp4", 3)
    Image.fromarray(picture(2)).save(tmp_path / "photo10.png")
    (tmp_path / "photo3.mov").write_bytes(b"no video")
    frames, source = read(tmp_path)
    assert [Path(frame.source).name for frame in frames] == ["photo1.png", *["photo2.mp4"] * 3, "photo10.png"]
    assert (source.captured, source.damaged) == (6, 1) and "photo3.mov" in caplog.text
    assert len(read(tmp_path / "p*")[0]) == 5


def test_a_folder_with_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mov").write_bytes(b"no video")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with open_source(str(tmp_path)) as source, pytest.raises(SourceError, match="b.mp4"):
        list(source)


@pytest.mark.parametrize(
    ("ending", "codec", "kind"),
    [
        ("mov", "qtrle", "argb"),
        ("mov", "png", "rgba"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("mkv", "ffv1", "yuva420p"),
    ],
)
def test_transparent_video(ending: str, codec: str, kind: str, tmp_path: Path) -> None:
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, 32:], alpha[40:, :16] = 0, 128
    options = {"auto-alt-ref": "0"} if ending == "webm" else {}
    frames, _ = read(save(tmp_path / f"a.{ending}", 3, codec=codec, kind=kind, alpha=alpha, **options))
    assert len(frames) == 3 and [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    image = frames[1].image
    assert near(image[24, 50], (255, 255, 255)) and near(image[4, 4], GREEN)
    assert near(image[44, 4], (238, 138, 138))


def test_variable_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stamps = [0, 1, 2, 5, 6, 9, 14, 15, 17, 22]
    for ending in ("mp4", "mkv", "avi"):
        frames, source = read(save(tmp_path / f"a.{ending}", 10, stamps=stamps, codec="mpeg4"))
        assert [frame.time for frame in frames] == pytest.approx([stamp / 10 for stamp in stamps], abs=0.002)
        assert source.damaged == 0
    assert not caplog.records


def test_several_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, size in zip(streams, [(32, 24), (64, 48)], strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = 0
        for stream in streams:
            for index in range(4):
                shown = picture(index, (stream.width, stream.height))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            container.mux(stream.encode())
    frames, _ = read(path)
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 4
    assert "holds 2 videos: the one of 64x48 is read" in caplog.text


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("yuv422p", "libx264"), ("yuv444p", "libx264"), ("yuv420p10le", "libx264"), ("yuv422p10le", "ffv1"),
        ("gray", "ffv1"), ("gray10le", "ffv1"), ("nv12", "libx264"), ("bgr0", "ffv1"), ("gbrp", "libx264rgb"),
    ],
)  # fmt: skip
def test_kinds_of_samples(kind: str, codec: str, tmp_path: Path) -> None:
    codec, kind = ("libx264rgb", "bgr0") if kind == "gbrp" else (codec, kind)
    frames, _ = read(save(tmp_path / "a.mkv", 3, codec=codec, kind=kind, first=60))
    shown = frames[0].image.astype(int)
    assert shown[-8, -8] == pytest.approx([120] * 3, abs=3)
    if not kind.startswith("gray"):
        assert near(frames[0].image[4, 4], GREEN)


def test_interlaced_frames_are_left_woven(tmp_path: Path) -> None:
    """PAL: both fields as they are recorded, 25 frames a second."""
    clip = save(tmp_path / "a.mpg", 10, codec="mpeg2video", size=(720, 576), rate=25, flags="+ildct+ilme")
    frames, source = read(clip)
    assert len(frames) == 10 and source.damaged == 0 and frames[0].image.shape == (576, 720, 3)


def test_a_start_within_a_group_of_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A recording cut before its first key frame: what cannot be decoded is counted and told."""
    clip = save(tmp_path / "a.ts", 50, g="25", noise=20)
    with av.open(str(clip)) as container:
        start = [packet.pos for packet in container.demux(video=0) if packet.size][12]
    (tmp_path / "b.ts").write_bytes(clip.read_bytes()[start // 188 * 188 :])
    frames, source = read(tmp_path / "b.ts")
    assert levels(frames)[-20:] == list(range(30, 50)) and source.captured >= 36
    assert source.damaged == source.captured - len(frames)
    assert source.damaged == 0 or "damaged or missing" in caplog.text


def test_missing_timestamps(tmp_path: Path) -> None:
    raw = save(tmp_path / "a.h264", 12)
    frames, _ = read(raw)
    assert levels(frames) == sorted(levels(frames)) and len(frames) == 12
    assert np.all(np.diff([frame.time for frame in frames]) > 0)


def test_one_frame_without_a_duration(tmp_path: Path) -> None:
    for ending in ("mp4", "mkv", "avi", "ts"):
        frames, source = read(save(tmp_path / f"a.{ending}", 1))
        assert (len(frames), source.damaged) == (1, 0)


def test_nothing_that_can_be_decoded(tmp_path: Path) -> None:
    clip = save(tmp_path / "a.mp4", 10, noise=40, size=(160, 120))
    for where, size in packets(clip):
        overwrite(clip, where, size)
    with open_source(str(clip)) as source, pytest.raises(SourceError, match="no frame that can be decoded"):
        list(source)
    assert source.captured == source.damaged == 10


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    import os
    import threading

    clip, pipe = save(tmp_path / "a.mkv", 5), tmp_path / "pipe.mkv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()), daemon=True)
    writer.start()
    frames, _ = read(pipe)
    assert len(frames) == 5


def test_many_clips_are_not_all_held_open(tmp_path: Path) -> None:
    clip = save(tmp_path / "0.mp4", 1).read_bytes()
    for number in range(40):
        (tmp_path / f"{number}.mp4").write_bytes(clip)
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir()))
    with open_source(str(tmp_path)) as source:
        assert len(list(handles.iterdir())) <= before + 1
        assert len(list(source)) == 40
