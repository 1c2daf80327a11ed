"""The demo's data: photos of six kinds of parts on a conveyor, and a video with true labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from rmatk.scenes.conveyor import CONVEYOR_KINDS, shot
from rmatk.scenes.conveyor import video as render_video
from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import naming_storage_errors
from rmatk_runtime.files import replacing, write_atomic
from rmatk_runtime.sources.pyav import import_av

TRAIN_SHOTS, TEST_SHOTS = 16, 10
SECONDS, RATE = 10, 15


@dataclass(frozen=True)
class DemoFiles:
    """Folders of training and test photos (one subfolder per kind), the video, and each frame's true kind."""

    train: Path
    test: Path
    video: Path
    truth: tuple[str, ...]


def render(out: Path, seed: int) -> DemoFiles:
    """Render everything into ``out``.

    Raises:
        StorageError: disk full.
        MissingExtraError: PyAV is not installed.
    """
    train, test = out / "photos" / "train", out / "photos" / "test"
    for number, (folder, count) in enumerate(((train, TRAIN_SHOTS), (test, TEST_SHOTS))):
        for kind_number, kind in enumerate(CONVEYOR_KINDS):
            rng = np.random.default_rng([seed, number, kind_number])
            for index in range(count):
                path = folder / kind.replace(" ", "_") / f"{index:03d}.jpg"
                write_atomic(path, _jpeg(shot(kind, rng)))
    truth: list[str] = []
    path = out / "video" / "conveyor.mp4"
    _write_video(path, _noting(render_video(CONVEYOR_KINDS, seed, SECONDS, RATE), truth))
    table = io.StringIO()
    csv.writer(table).writerows([("frame", "kind"), *enumerate(truth)])
    write_atomic(out / "video" / "truth.csv", table.getvalue().encode())
    return DemoFiles(train, test, path, tuple(truth))


def _noting(frames: Iterator[tuple[UInt8, str]], truth: list[str]) -> Iterator[UInt8]:
    """The pictures alone; each one's kind is appended to ``truth``."""
    for image, kind in frames:
        truth.append(kind)
        yield image


def _jpeg(image: UInt8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _write_video(path: Path, frames: Iterator[UInt8]) -> None:
    """Encode (H, W, 3) uint8 frames as a plain video."""
    from av.video.stream import VideoStream

    av = import_av()
    with replacing(path) as partial, naming_storage_errors(path), av.open(str(partial), "w") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = cast(VideoStream, container.add_stream(codec, rate=Fraction(RATE)))
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
