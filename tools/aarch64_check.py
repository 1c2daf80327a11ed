"""Checks rmatk on aarch64 without a board: by emulation, with the wheels that a device installs.

    sudo apt-get install qemu-user-static debootstrap proot
    python tools/aarch64_check.py demo/bundle demo/video/conveyor.mp4 --root /tmp/arm64 --json

Debian 12 for arm64 is unpacked below ``--root`` (as root; several minutes, once), this machine's pip
installs the wheels into it, and every program in it runs under QEMU, which proot calls by name: no binfmt, no
container. Then ``rmatk doctor``, ``parity`` and ``infer`` run there, and the digests of RGB frames, tensors
and labels are compared with those of this machine. ``--constraints docker/constraints-jetson.txt`` takes
JetPack 6's versions. Not part of the gate: it takes minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
CHECKOUT = HERE.parents[1]
SUITE, PYTHON = "bookworm", "3.11"
TOOLS = {"qemu-aarch64-static": "qemu-user-static", "debootstrap": "debootstrap", "proot": "proot"}
WHEELS = ("numpy", "pillow", "msgspec", "rich", "typer", "av", "onnxruntime", "tokenizers", "ftfy")
PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
FORMATS = ("yuv420p", "nv12", "yuvj420p", "yuv422p", "yuyv422", "yuv444p", "yuv420p10le", "gray")
CPU = """processor\t: {}
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd07
CPU revision\t: 0

"""
RMATK = (  # without the graph's first run in a child, whose limits are for machines, not for emulation
    "import rmatk_runtime.onnx_runtime.trial as trial; trial.ensure_runs = lambda *_: None; "
    "from rmatk.cli import main; main()"
)
SIZES = ((640, 480), (1280, 720), (853, 481))


def digests(bundle: Path, video: Path) -> dict[str, Any]:
    """Of every conversion, of the video's frames and of their tensors, on the machine that runs this."""
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.pictures.preprocess import preprocess
    from rmatk_runtime.sources import open_source

    preprocessing = Bundle.open(bundle).manifest.preprocess
    frames, tensors = hashlib.sha256(), hashlib.sha256()
    count = 0
    with open_source(str(video)) as source:
        for frame in source:
            count += 1
            frames.update(frame.image.tobytes())
            tensors.update(preprocess(frame.image, preprocessing).tobytes())
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "pillow", "av", "onnxruntime")},
        "conversions": {f"{kind} {w}x{h}": _conversion(kind, w, h) for kind in FORMATS for w, h in SIZES},
        "frames": {"count": count, "sha256": frames.hexdigest()},
        "tensors": tensors.hexdigest(),
    }


def _conversion(kind: str, width: int, height: int) -> str:
    """The digest of one picture of random samples, smooth and noisy, converted to RGB."""
    import av
    import numpy as np

    from rmatk_runtime.sources.colour import to_rgb

    random = np.random.default_rng(0)
    frame = av.VideoFrame(width - width % 2 * (kind == "yuyv422"), height, kind)
    for plane in frame.planes:
        data = random.integers(0, 4 if "10" in kind else 256, plane.buffer_size, np.uint8)
        data[: len(data) // 2] = 16 + data[: len(data) // 2] // 4
        plane.update(data.tobytes())
    return hashlib.sha256(to_rgb(frame).tobytes()).hexdigest()


class Emulated:
    """A Debian for arm64 in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
        if missing:
            sys.exit(f"sudo apt-get install {' '.join(missing)}")

    def install(self, constraints: Path | None) -> None:
        """Unpack Debian where it is not there, and the wheels again."""
        if not (self.root / "usr/bin/python3").exists():
            include = "--include=python3,ca-certificates"
            command = ["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", include]
            subprocess.run([*command, SUITE, str(self.root)], check=True, stdout=sys.stderr)
            proc = self.root / "proc"  # a link to this machine's, which proot refuses
            if proc.is_symlink():
                proc.unlink()
                proc.mkdir()
            second = ["DEBOOTSTRAP_DIR=/debootstrap", "/debootstrap/debootstrap", "--second-stage"]
            self.run(second, stdout=sys.stderr)
        site = self.root / "opt/device"
        shutil.rmtree(site, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:", "--target", str(site)]
        command += [f"--platform={name}" for name in PLATFORMS] + [f"--python-version={PYTHON}"]
        command += ["-c", str(constraints)] if constraints else []
        subprocess.run([*command, *WHEELS], check=True, stdout=sys.stderr)

    def run(self, command: Sequence[str], binds: Sequence[str] = (), **more: Any) -> Any:
        """Run a command there."""
        proot = ["proot", "-0", "-q", "qemu-aarch64-static", "-r", str(self.root), "-w", "/"]
        cpu = self.root / "opt/cpuinfo"  # this machine's, as of an x86-64, ends ONNX Runtime
        cpu.write_text("".join(CPU.format(number) for number in range(os.cpu_count() or 1)))
        binds = ["/proc", f"{cpu}:/proc/cpuinfo", "/dev", *binds]
        proot += [word for bind in binds for word in ("-b", bind)]
        rooms = ":".join(str(CHECKOUT / name) for name in ("", "export", "runtime"))
        environment = [
            *("/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"),
            *(
                "DEBIAN_FRONTEND=noninteractive",
                f"PYTHONPATH={rooms}:/opt/device",
                "PYTHONDONTWRITEBYTECODE=1",
            ),
        ]
        return subprocess.run([*proot, *environment, *command], check=True, text=True, **more)

    def python(self, *arguments: str, paths: Sequence[Path]) -> str:
        """What Python prints there; ``paths`` have the same names there as here."""
        binds = [f"{path}:{path}" for path in (CHECKOUT, *paths)]  # else proot answers access() wrongly
        found = self.run(["/usr/bin/python3", *arguments], binds, stdout=subprocess.PIPE)
        return str(found.stdout)


def check(bundle: Path, video: Path, emulated: Emulated) -> dict[str, Any]:
    """Run everything there and here, and compare."""
    files, names = (bundle, video), (str(bundle), str(video))
    there = json.loads(emulated.python(str(HERE), *names, "--digests", paths=files).splitlines()[-1])
    here = digests(bundle, video)
    infer = ("-c", RMATK, "infer", "--jsonl", "-", *names)
    records = [json.loads(line) for line in _here(infer).splitlines()]
    emulated_records = [json.loads(line) for line in emulated.python(*infer, paths=files).splitlines()]
    rmatk = {
        command: json.loads(emulated.python("-c", RMATK, command, names[0], "--json", paths=files))
        for command in ("parity", "doctor")
    }
    pairs = list(zip(records, emulated_records, strict=True))
    apart = [
        abs(one["top"][0]["probability"] - other["top"][0]["probability"])
        for one, other in pairs
        if one["label"] == other["label"]
    ]
    return {
        "here": {key: here[key] for key in ("machine", "python", "versions")},
        "emulated": {key: there[key] for key in ("machine", "python", "versions")},
        **rmatk,
        "conversions_equal": here["conversions"] == there["conversions"],
        "conversions_apart": [
            name for name, value in here["conversions"].items() if there["conversions"][name] != value
        ],
        "frames": here["frames"],
        "frames_equal": here["frames"] == there["frames"],
        "tensors_equal": here["tensors"] == there["tensors"],
        "labels_changed": sum(one["label"] != other["label"] for one, other in pairs),
        "records": len(pairs),
        "largest_probability_difference": max(apart, default=0.0),
    }


def _here(arguments: Sequence[str]) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd=CHECKOUT).stdout


def main() -> None:
    """Print what was found; exit code 3 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--root", type=Path, default=Path("arm64"))
    parser.add_argument("--constraints", type=Path)
    parser.add_argument("--json", action="store_true", help="the whole result as the last line")
    parser.add_argument("--digests", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.digests:
        print(json.dumps(digests(options.bundle, options.video)))
        return
    emulated = Emulated(options.root.resolve())
    emulated.install(options.constraints)
    found = check(options.bundle.resolve(), options.video.resolve(), emulated)
    for name in ("conversions_equal", "frames_equal", "tensors_equal", "labels_changed", "records"):
        print(f"{name}: {found[name]}")
    if options.json:
        print(json.dumps(found))
    if not (found["conversions_equal"] and found["frames_equal"] and found["tensors_equal"]):
        sys.exit(3)


if __name__ == "__main__":
    main()
