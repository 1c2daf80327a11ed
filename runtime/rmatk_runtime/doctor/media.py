"""Probes of cameras, CSI, GStreamer, and FFmpeg through PyAV."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.doctor.v4l2 import describe, read_modes
from rmatk_runtime.platform import CSI_NEEDS_JETSON
from rmatk_runtime.sources.gstreamer import NEEDED, PACKAGES

_SECONDS = 10


def probe_cameras(root: Path = Path("/")) -> Probe:
    """V4L2 devices with their names and modes, and whether this user may open them."""
    devices = sorted((root / "dev").glob("video*"))
    if not devices:
        return Probe(
            "cameras",
            False,
            "no /dev/video* (none plugged in, or not passed into the container)",
            "plug one in (docker: --device /dev/video0), or try: rmatk infer BUNDLE --camera test://",
            optional=True,
        )
    text = "; ".join(_describe(root, device) for device in devices)
    if any(not os.access(device, os.R_OK | os.W_OK) for device in devices):
        cure = 'sudo usermod -aG video "$USER", then log in again'
        return Probe("cameras", False, f"{text}; this user may not open all of them", cure)
    return Probe("cameras", True, text)


def _describe(root: Path, device: Path) -> str:
    """``/dev/video0 (HD Webcam): MJPG 1920x1080@30``."""
    try:
        name = (root / "sys/class/video4linux" / device.name / "name").read_text().strip()
    except OSError:
        name = "no name"
    try:
        modes = read_modes(device)
    except OSError as error:
        modes_text = error.strerror or "cannot be asked"
    else:
        modes_text = "gives no pictures" if modes is None else describe(modes) or "modes unknown"
    return f"/dev/{device.name} ({name}): {modes_text}"


def probe_gstreamer() -> Probe:
    """GStreamer's tools, and the elements that ``gst:`` and ``csi://`` are made of."""
    version, elements = _gst_inspect("--version"), _gst_inspect()
    if version is None or elements is None:
        cure = "sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad}"
        return Probe("gstreamer", False, "gst-inspect-1.0 is missing or does not run", cure, optional=True)
    name = next((line for line in version.splitlines() if line.startswith("GStreamer")), "GStreamer")
    present = set(re.findall(r"^\S+: +([\w-]+):", elements, re.MULTILINE))
    if needed := [element for element in NEEDED if element not in present]:
        cure = f"sudo apt-get install {' '.join(dict.fromkeys(PACKAGES[element] for element in needed))}"
        return Probe("gstreamer", False, f"{name} lacks {', '.join(needed)}, so gst: cannot work", cure)
    absent = {
        element: package
        for element, package in PACKAGES.items()
        if element not in present and not package.startswith("nvidia")
    }
    others = ", ".join(f"{element} ({package})" for element, package in absent.items())
    return Probe("gstreamer", True, f"{name}; gst: works" + (f"; not here: {others}" if others else ""))


def probe_csi(*, jetson: bool) -> Probe:
    """NVIDIA's element for CSI cameras, on a Jetson."""
    if not jetson:
        return Probe("csi", False, CSI_NEEDS_JETSON, optional=True)
    if _gst_inspect("nvarguscamerasrc") is None:
        return Probe(
            "csi",
            False,
            "nvarguscamerasrc missing (gst-inspect-1.0 found no such element)",
            "sudo apt-get install nvidia-l4t-gstreamer; "
            "inside Docker add --volume /tmp/argus_socket:/tmp/argus_socket",
        )
    return Probe("csi", True, "nvarguscamerasrc is there")


def _gst_inspect(*arguments: str) -> str | None:
    """What ``gst-inspect-1.0`` prints, or None where it fails; without arguments, all elements."""
    tool = shutil.which("gst-inspect-1.0")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
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
