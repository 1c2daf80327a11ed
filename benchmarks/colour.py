"""YUV to RGB: error against the exact formula, cost beside FFmpeg's default conversion, labels that change.

    python benchmarks/colour.py --bundle demo/bundle --video clip.mp4 --json

The reference is computed in float64 from ITU-T H.273; each chroma sample stands for all pixels that it
covers. Both conversions take turns on the same frames. Without --bundle and --video no labels are compared.
The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.sources.colour import FULL, LIMITED, WEIGHTS, matrix_of, planes_of, to_rgb, yuv_to_rgb

MATRICES = {"BT.601": 5, "BT.709": 1, "BT.2020": 9}
FORMATS = ("yuv420p", "nv12", "yuvj420p", "yuv422p", "yuv420p10le")


def default(frame: av.VideoFrame) -> UInt8:
    """What ``to_ndarray`` does: FFmpeg's default flags."""
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))


def by_numpy(frame: av.VideoFrame) -> UInt8:
    """The path for frames that FFmpeg's scaler cannot convert exactly."""
    full = int(frame.color_range) == FULL
    return yuv_to_rgb(planes_of(frame), matrix_of(int(frame.colorspace), frame.height), full=full)


def scene(kind: str, size: tuple[int, int], matrix: int, *, full: bool) -> av.VideoFrame:
    """A frame of smooth colours and noise."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (size[1] // 30, size[0] // 30, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC), np.int16)
    noisy = (smooth + random.integers(-8, 9, smooth.shape, np.int16)).clip(0, 255).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(noisy, format="rgb24").reformat(
        format=kind, dst_colorspace=matrix, dst_color_range=FULL if full else LIMITED
    )
    frame.colorspace, frame.color_range = matrix, FULL if full else LIMITED
    return frame


def exact(frame: av.VideoFrame) -> npt.NDArray[np.float64]:
    """The formula: (H, W, 3) float64 in [0, 255]."""
    red, blue = WEIGHTS[int(frame.colorspace)]
    green, bits = 1 - red - blue, frame.format.components[0].bits
    unit, top = 2.0 ** (bits - 8), 2.0**bits - 1
    luma, *chroma = planes_of(frame)
    height, width = luma.shape
    spread = [
        plane.repeat(-(-height // plane.shape[0]), 0).repeat(-(-width // plane.shape[1]), 1)[:height, :width]
        for plane in chroma
    ]
    full = int(frame.color_range) == FULL
    y = luma / top if full else (luma - 16 * unit) / (219 * unit)
    u, v = ((plane - 128 * unit) / (top if full else 224 * unit) for plane in spread)
    channels = (
        y + 2 * (1 - red) * v,
        y - 2 * (blue * (1 - blue) * u + red * (1 - red) * v) / green,
        y + 2 * (1 - blue) * u,
    )
    return np.clip(255 * np.stack(channels, -1), 0, 255)


def errors(size: tuple[int, int]) -> dict[str, Any]:
    """Bias and largest error of both, in levels."""
    found: dict[str, Any] = {}
    for kind in FORMATS:
        for name, matrix in MATRICES.items():
            full = kind.startswith("yuvj")
            frame = scene(kind, size, matrix, full=full)
            truth = exact(frame)
            found[f"{kind} {name}"] = {
                side: {
                    "bias": round(float((convert(frame) - truth).mean()), 4),
                    "largest": round(float(np.abs(convert(frame) - truth).max()), 3),
                }
                for side, convert in (("rmatk", to_rgb), ("default", default))
            }
    return found


def costs(size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """CPU milliseconds per frame of each way, in turns."""
    frame = scene("yuv420p", size, 1, full=False)
    ways: dict[str, Callable[[av.VideoFrame], UInt8]] = {
        "rmatk": to_rgb,
        "default": default,
        "numpy": by_numpy,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, convert in ways.items():
            start = time.process_time()
            convert(frame)
            times[name].append(1e3 * (time.process_time() - start))
    medians = {name: round(statistics.median(values[1:]), 3) for name, values in times.items()}
    return {**medians, "over_default": round(medians["rmatk"] / medians["default"], 2)}


def labels(bundle: Path, video: Path) -> dict[str, Any]:
    """How many frames of a video get another label than after FFmpeg's default conversion."""
    from rmatk_runtime.inference.classifier import Classifier

    classifier = Classifier.open(bundle, backend="cpu", batch=2)
    changed = frames = 0
    levels: list[float] = []
    with av.open(f"file:{video}") as container:
        for frame in container.decode(video=0):
            pictures = [to_rgb(frame), default(frame)]
            ours, theirs = classifier.classify(pictures)
            frames, changed = frames + 1, changed + (ours.top[0].label != theirs.top[0].label)
            levels.append(float(np.abs(pictures[0].astype(int) - pictures[1]).mean()))
    return {
        "frames": frames,
        "changed": changed,
        "share": round(changed / frames, 5),
        "mean_levels_apart": round(statistics.mean(levels), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print the JSON object only")
    options = parser.parse_args()
    measured = errors((640, 480))
    result: dict[str, Any] = {
        "errors": measured,
        "largest_bias": max(abs(each["rmatk"]["bias"]) for each in measured.values()),
        "largest_error": max(each["rmatk"]["largest"] for each in measured.values()),
        "default_largest_bias": max(abs(each["default"]["bias"]) for each in measured.values()),
        "cpu_ms_per_1080p_frame": costs((1920, 1080), options.rounds),
        "labels": labels(options.bundle, options.video) if options.bundle and options.video else None,
        "machine": platform.machine(),
        "av": av.__version__,
        "numpy": np.__version__,
    }
    if not options.json:
        print(f"bias at most {result['largest_bias']} of a level, error at most {result['largest_error']}")
        print(f"CPU ms per 1080p frame: {result['cpu_ms_per_1080p_frame']}")
        print(f"labels: {result['labels']}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
