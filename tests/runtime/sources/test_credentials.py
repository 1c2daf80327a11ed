from __future__ import annotations

import shlex
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmatk_runtime.sources.credentials import scrubbed, secrets_in, without_credentials

# Upper case with a mark, so that it is not found by chance in what may be told
SECRETS = st.text(string.ascii_uppercase + string.digits + "@:/?#&=%+;,.!~'", min_size=5, max_size=12).map(
    lambda text: f"Q{text}Q"
)
WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=6)
SCHEMES = st.sampled_from(["rtsp", "rtsps", "http", "https", "ftp", "RTSP"])


@pytest.mark.parametrize(
    ("uri", "clean"),
    [
        ("rtsp://admin:hunter2@10.0.0.5:554/live", "rtsp://10.0.0.5:554/live"),
        ("rtsp://admin:p@ss/hunter2@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:hunter2?@cam/live", "rtsp://..."),
        ("http://cam/video.cgi?user=admin&pwd=hunter2", "http://cam/video.cgi"),
        ("http://cam/video.cgi?user=me@home.org&x=hunter2", "http://..."),
        ("http://cam/video.cgi#hunter2", "http://cam/video.cgi"),
        ("rtsp://cam:554/user=admin_password=hunter2_channel=1.sdp", "rtsp://cam:554/user=..."),
        ("rtsp://cam/live;auth=hunter2/more", "rtsp://cam/live;auth=..."),
        ("rtsp:/admin:hunter2@cam/live", "rtsp:...@cam/live"),
        ("admin:hunter2@cam/live", "admin:...@cam/live"),
        ("gst:rtspsrc location=rtsp://a:hunter2@cam/ user-pw=hunter2 ! decodebin", "gst:rtspsrc ! decodebin"),
        ("gst:rtsp://a:hunter2@cam/live ! decodebin", "gst:rtsp://cam/live ! decodebin"),
        ("gst:videotestsrc ! video/x-raw,width=64!x", "gst:videotestsrc ! video/x-raw"),
        ("http://cam/mjpeg", "http://cam/mjpeg"),
        ("photos/me@2x.png", "photos/me@2x.png"),
        ("/dev/video0", "/dev/video0"),
        ("test://640x480@30?frames=9", "test://640x480@30?frames=9"),
    ],
)
def test_credentials_are_removed(uri: str, clean: str) -> None:
    assert without_credentials(uri) == clean
    assert "hunter2" not in without_credentials(uri)


@given(SCHEMES, WORDS, SECRETS, WORDS, SECRETS)
def test_no_password_and_no_query_is_told(
    scheme: str, host: str, password: str, path: str, token: str
) -> None:
    for uri in (
        f"{scheme}://me:{password}@{host}/{path}",
        f"{scheme}://{password}@{host}/{path}",
        f"{scheme}://{host}/{path}?x={token}",
        f"{scheme}://me:{password}@{host}/{path}?x={token}&y={token}",
        f"{scheme}://{host}/{path}/password={token}",
        f"gst:rtspsrc location={shlex.quote(f'{scheme}://me:{password}@{host}/{path}?{token}')} ! x",
    ):
        told = without_credentials(uri)
        assert password not in told and token not in told
        assert without_credentials(told) == told


@given(SCHEMES, SECRETS, SECRETS, SECRETS)
def test_no_secret_of_a_pipeline_is_left_in_what_others_say(
    scheme: str, password: str, token: str, key: str
) -> None:
    address = f"{scheme}://me:{password}@cam/live?key={token}"
    secrets = secrets_in(["souphttpsrc", f"location={address}", f"user-pw={key}", "is-live=true"])
    for text in (
        f"cannot open {address}.",
        f"'{address}' is not there",
        f"rejected {password}, {token} and {key}",
        f"GET /live?key={token} with me:{password}",
    ):
        told = scrubbed(text, secrets)
        assert password not in told and token not in told and key not in told


def test_other_words_stay_as_they_are() -> None:
    secrets = secrets_in(["v4l2src", "device=/dev/video9", "!", "video/x-raw,width=640"])
    assert secrets == []
    assert (
        scrubbed("Cannot identify device '/dev/video9'.", secrets) == "Cannot identify device '/dev/video9'."
    )
