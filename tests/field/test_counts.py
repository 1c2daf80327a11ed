"""``captured = frames + damaged + dropped + out_of_range``: for every kind of source, under any damage."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import RmatkError, SourceError
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.config import InferConfig
from rmatk_runtime.inference.loop import run
from rmatk_runtime.inference.summary import Summary
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.sources import Source, SourceOptions, open_source
from rmatk_runtime.sources.live import Connection, LiveSource, Picture
from tests.field.clips import picture, save
from tests.runtime.sources.test_live import damaged, grey


class Fixed(Backend):
    """Answers at once, always alike."""

    name = "fixed"

    def embed(self, images: Float32) -> Float32:
        return np.eye(2, dtype=np.float32)[np.zeros(len(images), int)]


def summary_of(source: Source, **options: int | None) -> Summary:
    classes = ClassMatrix(("red", "blue"), np.eye(2, dtype=np.float32))
    spec = PreprocessSpec(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    classifier = Classifier(Fixed(), spec, LabelHead(classes, Decision(logit_scale=1.0), 2))
    return run(source, classifier, [], InferConfig(**options))  # type: ignore[arg-type]


def holds(summary: Summary, expected: int | None = None) -> None:
    parts = summary.frames + summary.damaged + summary.dropped + summary.out_of_range
    assert summary.captured == parts and summary.skipped == summary.damaged
    assert min(summary.frames, summary.damaged, summary.dropped, summary.out_of_range) >= 0
    assert expected is None or summary.captured == expected


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _bytes(data: bytes, chance: random.Random, size: int, fill: Callable[[int], bytes]) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + fill(size)[: len(data) - place] + data[place + size :]


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "none": lambda data, chance: data,
    "cut": _cut,
    "cut a little": lambda data, chance: data[: -chance.randrange(1, 40)],
    "empty": lambda data, chance: b"",
    "head gone": lambda data, chance: data[chance.randrange(1, 64) :],
    "one bit": lambda data, chance: _bytes(data, chance, 1, lambda n: chance.randbytes(n)),
    "ten bytes": lambda data, chance: _bytes(data, chance, 10, chance.randbytes),
    "3000 bytes": lambda data, chance: _bytes(data, chance, 3000, chance.randbytes),
    "zeros": lambda data, chance: _bytes(data, chance, 300, bytes),
    "many zeros": lambda data, chance: _bytes(data, chance, 5000, bytes),
    "ones": lambda data, chance: _bytes(data, chance, 300, lambda n: b"\xff" * n),
    "doubled": lambda data, chance: data + data,
    "a piece twice": lambda data, chance: data[: len(data) // 2] + data[len(data) // 3 :],
    "a piece gone": lambda data, chance: data[: len(data) // 3] + data[len(data) // 2 :],
    "text before": lambda data, chance: b"HTTP/1.0 200 OK\r\n\r\n" + data,
    "text behind": lambda data, chance: data + b"--boundary--\r\n" * 20,
    "scattered": lambda data, chance: bytes(
        byte if chance.random() > 0.002 else chance.randrange(256) for byte in data
    ),
    "blocks swapped": lambda data, chance: (
        data[: len(data) // 4] + data[len(data) // 2 :] + data[len(data) // 4 :]
    ),
    "tail zeroed": lambda data, chance: data[: len(data) * 3 // 4] + bytes(len(data) // 4),
    "noise": lambda data, chance: chance.randbytes(len(data)),
}
assert len(DAMAGE) == 20

FEW = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
options_of_a_loop = st.fixed_dictionaries(
    {
        "batch": st.sampled_from([1, 3]),
        "every": st.sampled_from([1, 2]),
        "max_frames": st.sampled_from([None, 4]),
    }
)
parts = st.sampled_from(
    [{}, {"stride": 3}, {"start": 0.5}, {"stop": 1.0}, {"start": 0.3, "stop": 0.9}, {"rate": 5.0}]
)
damages = st.sampled_from(sorted(DAMAGE))
seeds = st.integers(0, 1 << 16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 16 frames of each kind, and 4 photos."""
    folder = tmp_path_factory.mktemp("whole")
    for ending in ("mp4", "mkv", "avi", "ts"):
        save(folder / f"clip.{ending}", 16, noise=20, g="4")
    save(folder / "jpegs.avi", 16, codec="mjpeg", kind="yuvj420p", noise=20)
    for number in range(4):
        Image.fromarray(picture(20 * number)).save(folder / f"{number}.jpg")
        Image.fromarray(picture(20 * number)).save(folder / f"{number}.png")
    return folder


@FEW
@given(
    name=st.sampled_from(["clip.mp4", "clip.mkv", "clip.avi", "clip.ts", "jpegs.avi"]),
    damage=damages,
    seed=seeds,
    loop=options_of_a_loop,
    part=parts,
)
def test_videos(
    name: str,
    damage: str,
    seed: int,
    loop: dict[str, int],
    part: dict[str, float],
    whole: Path,
    tmp_path: Path,
) -> None:
    clip = tmp_path / name
    clip.write_bytes(DAMAGE[damage]((whole / name).read_bytes(), random.Random(seed)))
    try:
        source = open_source(str(clip), options=SourceOptions(**part))  # type: ignore[arg-type]
        found = summary_of(source, **loop)
    except SourceError:  # nothing of it can be read: named
        return
    holds(found, 16 if damage == "none" and not part and loop["max_frames"] is None else None)


@FEW
@given(damage=damages, seed=seeds, loop=options_of_a_loop, stride=st.sampled_from([1, 2]))
def test_folders_of_photos_and_clips(
    damage: str, seed: int, loop: dict[str, int], stride: int, whole: Path, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    for path in whole.iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(DAMAGE[damage](data, chance) if chance.random() < 0.6 else data)
    try:
        found = summary_of(open_source(str(tmp_path), options=SourceOptions(stride=stride)), **loop)
    except SourceError:
        return
    holds(found, 5 * 16 + 8 if damage == "none" and loop["max_frames"] is None else None)


@FEW
@given(damage=damages, seed=seeds, loop=options_of_a_loop)
def test_one_image(damage: str, seed: int, loop: dict[str, int], whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "0.jpg"
    path.write_bytes(DAMAGE[damage]((whole / "0.jpg").read_bytes(), random.Random(seed)))
    try:
        holds(summary_of(open_source(str(path)), **loop), 1)
    except SourceError:
        return


@FEW
@given(damage=damages, seed=seeds, loop=options_of_a_loop)
def test_jpegs_from_standard_input(
    damage: str, seed: int, loop: dict[str, int], whole: Path, tmp_path: Path
) -> None:
    import sys

    data = b"".join((whole / f"{n % 4}.jpg").read_bytes() for n in range(8))
    (tmp_path / "stream").write_bytes(DAMAGE[damage](data, random.Random(seed)))
    with (tmp_path / "stream").open("rb") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stream)
        try:
            found = summary_of(open_source("-"), **loop)
        except SourceError:
            return
    holds(found, 8 if damage == "none" and loop["max_frames"] is None else None)


class Losing(Connection):
    """A camera that sends whole pictures, damaged ones and packets that cannot be decoded, and breaks off."""

    def __init__(self, script: list[str]) -> None:
        self.script = script
        self.size = (6, 4)

    def __iter__(self):  # type: ignore[no-untyped-def]
        kinds: dict[str, Picture | None] = {"whole": grey(9), "damaged": damaged, "packet": None}
        while self.script:
            step = self.script.pop(0)
            if step == "lost":
                raise SourceError("lost")
            yield kinds[step]

    def close(self) -> None:
        """Nothing is held."""


@FEW
@given(
    script=st.lists(st.sampled_from(["whole", "whole", "whole", "damaged", "packet", "lost"]), max_size=30),
    loop=options_of_a_loop,
    rate=st.sampled_from([None, 1000.0]),
)
def test_cameras(script: list[str], loop: dict[str, int], rate: float | None) -> None:
    came = sum(step != "lost" for step in script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rmatk_runtime.sources.live.FIRST_WAIT", 0.001)
        patch.setattr("rmatk_runtime.sources.live.LONGEST_WAIT", 0.002)
        source = LiveSource("camera", lambda: Losing(script), SourceOptions(rate=rate))
        try:
            found = summary_of(source, **loop)
        except RmatkError:
            return
    holds(found, came if loop["max_frames"] is None else None)


@pytest.mark.parametrize("uri", ["test://64x48@200?frames=60", "test://64x48@200?frames=60&live=0"])
@pytest.mark.parametrize("loop", [{}, {"every": 3}, {"max_frames": 5}, {"batch": 4}])
def test_the_pattern(uri: str, loop: dict[str, int]) -> None:
    holds(summary_of(open_source(uri), **loop), 60 if "max_frames" not in loop else None)


def test_a_run_that_is_interrupted(whole: Path) -> None:
    holds(summary_of(open_source(str(whole / "clip.mp4"), options=SourceOptions(loop=True)), max_frames=100))
