"""The answers of a camera's driver, given by a stand-in: no camera is here."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from rmatk_runtime.doctor import media, v4l2
from rmatk_runtime.doctor.v4l2 import Mode, describe, read_modes

RATES = {
    ("MJPG", 1280, 720): [(1, 30), (1, 15)],
    ("MJPG", 1920, 1080): [(1, 30)],
    ("YUYV", 640, 480): [(1, 15), (1001, 30000)],
    ("YUYV", 1920, 1080): [(1, 5)],
}


def answer(capabilities: tuple[int, int], request: int, data: bytes) -> bytes:
    """A webcam's, laid out as in linux/videodev2.h; ``capabilities`` of the whole and of the device."""
    if request == 0x80685600:  # VIDIOC_QUERYCAP, struct v4l2_capability
        return struct.pack("16s32s32s6I", b"uvcvideo", b"HD", b"usb", 0, *capabilities, 0, 0, 0)
    index = struct.unpack_from("I", data)[0]
    if request == 0xC0405602:  # VIDIOC_ENUM_FMT, struct v4l2_fmtdesc
        kind = struct.unpack_from("4xI", data)[0]
        name = [b"MJPG", b"YUYV"][index : index + 1] if kind == 1 else []
        entries = [struct.pack("3I32s4s4I", index, 1, 0, b"", pixels, 0, 0, 0, 0) for pixels in name]
    elif request == 0xC02C564A:  # VIDIOC_ENUM_FRAMESIZES, struct v4l2_frmsizeenum
        pixels = struct.unpack_from("4x4s", data)[0].decode()
        sizes = [(width, height) for name, width, height in RATES if name == pixels][index : index + 1]
        entries = [struct.pack("I4s9I", index, pixels.encode(), 1, *size, *[0] * 6) for size in sizes]
    else:  # VIDIOC_ENUM_FRAMEINTERVALS, struct v4l2_frmivalenum
        assert request == 0xC034564B
        pixels, width, height = struct.unpack_from("4x4s2I", data)
        rates = RATES[pixels.decode(), width, height][index : index + 1]
        head = (index, pixels, width, height, 1)
        entries = [struct.pack("I4s3I8I", *head, *rate, *[0] * 6) for rate in rates]
    if not entries:
        raise OSError(errno.EINVAL, "Invalid argument")
    assert len(entries[0]) == len(data) == request >> 16 & 0x3FFF
    return entries[0]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "dev/video0"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.mark.parametrize(
    "capabilities", [(0x84A00001, 0x04200001), (1, 0)]
)  # an old driver: of the whole only
def test_modes_of_a_webcam(
    device: Path, monkeypatch: pytest.MonkeyPatch, capabilities: tuple[int, int]
) -> None:
    monkeypatch.setattr(v4l2.fcntl, "ioctl", lambda handle, *question: answer(capabilities, *question))
    modes = read_modes(device)
    assert modes == [
        Mode("MJPG", 1280, 720, 30),
        Mode("MJPG", 1920, 1080, 30),
        Mode("YUYV", 640, 480, 29.97),
        Mode("YUYV", 1920, 1080, 5),
    ]
    assert describe(modes) == "MJPG 1920x1080@30, YUYV 1920x1080@5 or 640x480@29.97"
    reason = media.probe_cameras(device.parents[1]).reason
    assert reason.endswith(": MJPG 1920x1080@30, YUYV 1920x1080@5 or 640x480@29.97")


def test_a_webcams_second_device_gives_no_pictures(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        v4l2.fcntl, "ioctl", lambda handle, *question: answer((0x84A00001, 0x04A00000), *question)
    )
    assert read_modes(device) is None
    assert media.probe_cameras(device.parents[1]).reason.endswith("video0 (no name): gives no pictures")


def test_what_is_no_camera_is_told() -> None:
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        read_modes(Path("/dev/null"))
