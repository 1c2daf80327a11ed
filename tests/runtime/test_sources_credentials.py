from __future__ import annotations

import pytest

from rmatk_runtime.sources.credentials import without_credentials


@pytest.mark.parametrize(
    ("uri", "clean"),
    [
        ("rtsp://admin:hunter2@10.0.0.5:554/live", "rtsp://10.0.0.5:554/live"),
        ("rtsp://admin:p@ss/hunter2@cam/live", "rtsp://cam/live"),
        ("http://cam/video.cgi?user=admin&pwd=hunter2", "http://cam/video.cgi"),
        ("rtsp://cam:554/user=admin_password=hunter2_channel=1.sdp", "rtsp://cam:554/user=..."),
        ("http://cam/mjpeg", "http://cam/mjpeg"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_credentials_are_removed(uri: str, clean: str) -> None:
    assert without_credentials(uri) == clean
    assert "hunter2" not in without_credentials(uri)
