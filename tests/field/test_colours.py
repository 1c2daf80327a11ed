"""YUV to RGB against the exact formula in float64, alike for PyAV and GStreamer."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.sources import SourceOptions, open_source
from rmatk_runtime.sources.colour import to_rgb
from tests.field.clips import av

# H.273: share of red and of blue in luma, by FFmpeg's number of the matrix
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
# rows and columns per chroma sample, bits
FORMATS = {
    "yuv420p": (2, 2, 8), "nv12": (2, 2, 8), "nv21": (2, 2, 8), "yuvj420p": (2, 2, 8), "yuv422p": (1, 2, 8),
    "yuvj422p": (1, 2, 8), "yuyv422": (1, 2, 8), "uyvy422": (1, 2, 8), "yuv444p": (1, 1, 8),
    "yuv440p": (2, 1, 8), "yuv411p": (1, 4, 8), "yuv420p10le": (2, 2, 10), "p010le": (2, 2, 10),
    "yuv444p12le": (1, 1, 12),
}  # fmt: skip
Planes = list[npt.NDArray[np.uint16]]


def exact(planes: Planes, matrix: int, *, full: bool, bits: int) -> npt.NDArray[np.float64]:
    """The formula: (H, W, 3) float64 in [0, 255]; each chroma sample stands for all pixels that it covers."""
    red, blue = MATRICES[matrix]
    green, unit = 1 - red - blue, 2.0 ** (bits - 8)
    height, width = planes[0].shape
    luma, u, v = (
        plane.repeat(-(-height // plane.shape[0]), 0).repeat(-(-width // plane.shape[1]), 1)[:height, :width]
        / 1.0
        for plane in planes
    )
    top = 2.0**bits - 1
    luma = luma / top if full else (luma - 16 * unit) / (219 * unit)
    u, v = ((part - 128 * unit) / (top if full else 224 * unit) for part in (u, v))
    channels = (
        luma + 2 * (1 - red) * v,
        luma - 2 * (blue * (1 - blue) * u + red * (1 - red) * v) / green,
        luma + 2 * (1 - blue) * u,
    )
    return np.clip(255 * np.stack(channels, -1), 0, 255)


def samples(kind: str, size: tuple[int, int], seed: int = 0) -> Planes:
    """Random luma and chroma planes: every value, also those no camera sends."""
    down, across, bits = FORMATS[kind]
    random = np.random.default_rng(seed)
    shapes = [(size[1], size[0])] + 2 * [(-(-size[1] // down), -(-size[0] // across))]
    return [random.integers(0, 1 << bits, shape, np.uint16) for shape in shapes]


def frame_of(kind: str, planes: Planes) -> object:
    """A frame of PyAV with these samples."""
    luma, u, v = planes
    pairs = np.stack((u, v) if kind != "nv21" else (v, u), -1).reshape(u.shape[0], -1)
    if kind in ("nv12", "nv21", "p010le"):
        planes = [luma << 6, pairs << 6] if kind == "p010le" else [luma, pairs]
    elif kind in ("yuyv422", "uyvy422"):
        order = (
            (luma[:, ::2], u, luma[:, 1::2], v) if kind == "yuyv422" else (u, luma[:, ::2], v, luma[:, 1::2])
        )
        planes = [np.stack(order, -1).reshape(luma.shape[0], -1)]
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], kind)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        data = values.astype(np.uint8 if FORMATS[kind][2] == 8 else "<u2").view(np.uint8)
        rows[: len(data), : data.shape[1]] = data
    return frame


@pytest.mark.parametrize("size", [(64, 48), (130, 98), (1280, 720)])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_follows_matrix_and_range(kind: str, size: tuple[int, int]) -> None:
    planes = samples(kind, size)
    for matrix in MATRICES if size[0] == 64 else (1,):
        for full in (False, True):
            if kind.startswith("yuvj") and not full:
                continue
            frame = frame_of(kind, planes)
            frame.colorspace, frame.color_range = matrix, 2 if full else 1  # type: ignore[attr-defined]
            error = to_rgb(frame) - exact(planes, matrix, full=full, bits=FORMATS[kind][2])  # type: ignore[arg-type]
            assert abs(error.mean()) < 0.02 and np.abs(error).max() < 0.52, (matrix, full)


@pytest.mark.parametrize("size", [(853, 481), (33, 17), (2, 2), (1, 1), (6, 4)])
@pytest.mark.parametrize("kind", ["yuv420p", "nv12", "yuv422p", "yuv444p", "yuv411p", "p010le"])
def test_odd_sizes(kind: str, size: tuple[int, int]) -> None:
    planes = samples(kind, size)
    frame = frame_of(kind, planes)
    frame.colorspace = 1  # type: ignore[attr-defined]
    error = to_rgb(frame) - exact(planes, 1, full=False, bits=FORMATS[kind][2])  # type: ignore[arg-type]
    assert np.abs(error).max() < 0.52


@pytest.mark.parametrize(
    ("size", "matrix"), [((720, 576), 5), ((768, 578), 1), ((1280, 720), 1), ((640, 480), 5)]
)
@pytest.mark.parametrize("kind", ["yuv420p", "nv12", "yuyv422"])
def test_what_states_nothing_is_of_its_size(size: tuple[int, int], matrix: int, kind: str) -> None:
    planes = samples(kind, size)
    error = to_rgb(frame_of(kind, planes)) - exact(planes, matrix, full=False, bits=8)  # type: ignore[arg-type]
    assert np.abs(error).max() < 0.52


@pytest.mark.parametrize("kind", ["yuv420p", "nv12", "yuv422p", "yuv444p"])
def test_white_black_and_colours_beyond_rgb(kind: str) -> None:
    down, across, _ = FORMATS[kind]
    for values, wanted in [
        ((235, 128, 128), 255),
        ((255, 128, 128), 255),
        ((16, 128, 128), 0),
        ((0, 128, 128), 0),
    ]:
        shapes = [(48, 64), *2 * [(48 // down, 64 // across)]]
        planes = [np.full(shape, value, np.uint16) for shape, value in zip(shapes, values, strict=True)]
        assert np.unique(to_rgb(frame_of(kind, planes))).tolist() == [wanted]  # type: ignore[arg-type]
    bright = [np.full((48, 64), 255, np.uint16), *2 * [np.full((48 // down, 64 // across), 255, np.uint16)]]
    assert to_rgb(frame_of(kind, bright))[0, 0].tolist()[::2] == [255, 255]  # type: ignore[arg-type]


@pytest.mark.parametrize("location", ["left", "center", "topleft"])
def test_where_chroma_is_said_to_be_shifts_nothing(location: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    codes = {"left": "0", "center": "1", "topleft": "2"}
    with av.open(str(path), "w") as container:
        options = {"qp": "0", "x264-params": f"chromaloc={codes[location]}"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = frame_of("yuv420p", samples("yuv420p", (64, 48)))
        container.mux([*stream.encode(frame), *stream.encode()])
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
    error = to_rgb(decoded) - exact(samples("yuv420p", (64, 48)), 5, full=False, bits=8)
    assert np.abs(error).max() < 0.52


@pytest.mark.debian
@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="apt-get install gstreamer1.0-tools")
@pytest.mark.parametrize(
    ("colorimetry", "matrix", "full"),
    [("", None, False), ("bt601", 5, False), ("bt709", 1, False), ("bt2020", 9, False), ("1:4:0:0", 5, True)],
)
@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (321, 99)])
@pytest.mark.parametrize("kind", ["I420", "NV12", "YUY2", "Y42B", "Y444"])
def test_gstreamer_is_converted_alike(
    kind: str, size: tuple[int, int], colorimetry: str, matrix: int | None, full: bool, tmp_path: Path
) -> None:
    kinds = {"I420": "yuv420p", "NV12": "nv12", "YUY2": "yuyv422", "Y42B": "yuv422p", "Y444": "yuv444p"}
    width = size[0] - size[0] % 2 * (kind == "YUY2")
    planes = samples(kinds[kind], (width, size[1]))
    raw = tmp_path / "a.raw"
    raw.write_bytes(_stored(kind, planes))
    stated = f",colorimetry={colorimetry}" if colorimetry else ""
    caps = f"video/x-raw,format={kind},width={width},height={size[1]},framerate=10/1{stated}"
    pipeline = f"gst:filesrc location={raw} blocksize={raw.stat().st_size} ! {caps}"
    with open_source(pipeline, options=SourceOptions(reconnect=0)) as source:
        image: UInt8 = next(iter(source)).image
    frame = frame_of(kinds[kind], planes)
    frame.colorspace = matrix or 2  # type: ignore[attr-defined]
    frame.color_range = 2 if full else 0  # type: ignore[attr-defined]
    assert np.array_equal(image, to_rgb(frame))  # type: ignore[arg-type]


def _stored(kind: str, planes: Planes) -> bytes:
    """Samples as GStreamer stores them: rows padded to four bytes, 4:2:0 to an even number of rows."""

    def padded(plane: npt.NDArray[np.uint16], columns: int, rows: int) -> bytes:
        stored = np.zeros((rows, columns), np.uint8)
        stored[: plane.shape[0], : plane.shape[1]] = plane
        return stored.tobytes()

    luma, u, v = planes
    height, width = luma.shape
    up4, even = -(-width // 4) * 4, height + height % 2
    if kind == "I420":
        half = -(-u.shape[1] // 4) * 4
        return padded(luma, up4, even) + padded(u, half, even // 2) + padded(v, half, even // 2)
    if kind == "NV12":
        return padded(luma, up4, even) + padded(np.stack((u, v), -1).reshape(u.shape[0], -1), up4, even // 2)
    if kind == "YUY2":
        order = (luma[:, ::2], u, luma[:, 1::2], v)
        return padded(np.stack(order, -1).reshape(height, -1), -(-2 * width // 4) * 4, height)
    columns = up4 if kind == "Y444" else -(-width // 8) * 4
    return padded(luma, up4, height) + padded(u, columns, height) + padded(v, columns, height)


def test_pixel_shape_of_gstreamer_counts() -> None:
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("apt-get install gstreamer1.0-tools")
    caps = "video/x-raw,format=I420,width=64,height=48,pixel-aspect-ratio=16/11"
    with open_source(
        f"gst:videotestsrc num-buffers=2 ! {caps}", options=SourceOptions(reconnect=0)
    ) as source:
        assert source.info.size == (round(64 * Fraction(16, 11)), 48)
