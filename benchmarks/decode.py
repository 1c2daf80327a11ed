"""PyAV or OpenCV for reading video: time and memory of every frame as RGB, and of a jump into the middle.

    pip install av opencv-python-headless
    python benchmarks/decode.py clip.mp4 --json

OpenCV is needed here only; rmatk reads through PyAV. Each reader runs in a process of its own, so that its
memory is its own, and takes turns with the others, so that noise of the machine hits all. Figures are medians
over the rounds. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

MIDDLE = 4.0  # seconds into the video
Frames = Iterator[np.ndarray]


def pyav(path: Path, start: float, threads: str) -> Frames:
    """Frames (H, W, 3) uint8 RGB from ``start`` seconds on, as ``rmatk_runtime.sources.video`` reads them."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = threads
        if start:
            container.seek(int(start * av.time_base))
        for picture in container.decode(stream):
            if picture.time >= start - 1e-6:
                yield picture.to_ndarray(format="rgb24")


def opencv(path: Path, start: float, threads: str) -> Frames:
    """The same by OpenCV, which decodes to BGR; it finds ``start`` by itself."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if start:
        capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * start)
    while True:
        ok, picture = capture.read()
        if not ok:
            capture.release()
            return
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


READERS: dict[str, tuple[Callable[[Path, float, str], Frames], str]] = {
    "pyav": (pyav, "AUTO"),
    "pyav_one_thread": (pyav, "NONE"),
    "opencv": (opencv, ""),
}


def measure(reader: str, path: Path) -> dict[str, float]:
    """One pass and one jump of one reader, in this process."""
    read, threads = READERS[reader]
    next(read(path, 0.0, threads))  # imports are no part of a frame's time
    wall, cpu = time.perf_counter(), time.process_time()
    frames = sum(1 for _ in read(path, 0.0, threads))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    middle = time.perf_counter()
    next(read(path, MIDDLE, threads))
    return {
        "frames": frames,
        "ms_per_frame": 1e3 * wall / frames,
        "cpu_ms_per_frame": 1e3 * cpu / frames,
        "seek_ms": 1e3 * (time.perf_counter() - middle),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def run(path: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over ``rounds``, every reader once in each."""
    results: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    for _ in range(rounds):
        for reader in READERS:
            command = [sys.executable, __file__, str(path), "--reader", reader]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[reader].append(json.loads(done.stdout))
    return {
        reader: {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
        for reader, runs in results.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("video", type=Path, help="longer than four seconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reader", choices=READERS, help="measure this one, here; used by the script itself")
    parser.add_argument("--json", action="store_true", help="only one JSON object")
    args = parser.parse_args()
    if args.reader:
        print(json.dumps(measure(args.reader, args.video)))
        return
    results = run(args.video, args.rounds)
    if not args.json:
        for reader, figures in results.items():
            print(f"{reader:16}", "  ".join(f"{key} {value:g}" for key, value in figures.items()))
    print(json.dumps({"video": args.video.name, "machine": platform.machine(), "readers": results}))


if __name__ == "__main__":
    main()
