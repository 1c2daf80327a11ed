"""Eyes: cameras, CSI, GStreamer, and FFmpeg through PyAV."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from rmatk_runtime.probes import Probe

_SECONDS = 10


def probe_cameras(root: Path = Path("/")) -> Probe:
    """V4L2 devices with their names, and whether this user may open them."""
    devices = sorted((root / "dev").glob("video*"))
    if not devices:
        return Probe(
            "cameras",
            False,
            "no /dev/video* (none plugged in, or not passed into the container)",
            "plug one in (docker: --device /dev/video0), or try: rmatk infer BUNDLE --camera test://",
            optional=True,
        )
    text = ", ".join(f"/dev/{device.name} {_camera_name(root, device.name)}".strip() for device in devices)
    if any(not os.access(device, os.R_OK | os.W_OK) for device in devices):
        cure = 'sudo usermod -aG video "$USER", then log in again'
        return Probe("cameras", False, f"{text}; this user may not open all of them", cure)
    return Probe("cameras", True, text)


def _camera_name(root: Path, device: str) -> str:
    try:
        return f"({(root / 'sys/class/video4linux' / device / 'name').read_text().strip()})"
    except OSError:
        return ""


def probe_gstreamer() -> Probe:
    """GStreamer's command-line tools."""
    cure = "sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good"
    output = _gst_inspect("--version")
    if output is None:
        return Probe("gstreamer", False, "gst-inspect-1.0 is missing or does not run", cure, optional=True)
    lines = [line for line in output.splitlines() if line.startswith("GStreamer")]
    return Probe("gstreamer", True, lines[0] if lines else "present, version unknown")


def probe_csi(*, jetson: bool) -> Probe:
    """NVIDIA's element for CSI cameras, on a Jetson."""
    if not jetson:
        return Probe("csi", False, "CSI cameras are for Jetson boards", optional=True)
    if _gst_inspect("nvarguscamerasrc") is None:
        return Probe(
            "csi",
            False,
            "nvarguscamerasrc missing (gst-inspect-1.0 found no such element)",
            "sudo apt-get install nvidia-l4t-gstreamer; "
            "inside Docker add --volume /tmp/argus_socket:/tmp/argus_socket",
        )
    return Probe("csi", True, "nvarguscamerasrc is there")


def _gst_inspect(argument: str) -> str | None:
    """What ``gst-inspect-1.0 ARGUMENT`` prints, or None where it fails."""
    tool = shutil.which("gst-inspect-1.0")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, argument], capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def probe_ffmpeg() -> Probe:
    """FFmpeg's libraries inside PyAV, and the two things asked of them: V4L2 input and H.264 output."""
    try:
        import av
    except ModuleNotFoundError:
        return Probe("ffmpeg", False, "PyAV is not installed", "pip install 'rmatk[camera]'", optional=True)
    except (ImportError, OSError) as error:
        return Probe("ffmpeg", False, f"PyAV does not load: {error}", "pip install --force-reinstall av")
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    v4l2 = any("v4l2" in name for name in av.formats_available)
    x264 = "libx264" in av.codecs_available
    video = "H.264 video" if x264 else "no libx264, annotated video is written as MPEG-4 part 2"
    text = f"PyAV {av.__version__}, libavcodec {codec}; {video}; {'V4L2' if v4l2 else 'no V4L2'} cameras"
    return Probe("ffmpeg", v4l2, text, "install PyAV's wheel (Linux): pip install --force-reinstall av")
