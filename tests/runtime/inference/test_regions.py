"""Regions: what is accepted, where they lie, and what happens when pictures change."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.frames import Frame
from rmatk_runtime.inference.regions import MOST, Regions, RegionWish, parse_region, regions_path


def frame(width: int, height: int, camera: str = "", time: float = 1.0) -> Frame:
    pixels = np.arange(height * width, dtype=np.uint32).astype(np.uint8).reshape(height, width, 1)
    return Frame(np.repeat(pixels, 3, axis=2), 3, time, "x", camera=camera)


@pytest.mark.parametrize(
    ("text", "camera", "name", "box"),
    [
        ("belt=10%,40%,80%,40%", "", "belt", (64, 192, 512, 192)),
        ("front:belt=0,0,640,480", "front", "belt", (0, 0, 640, 480)),
        ("a-b.c=10,20, 30,40%", "", "a-b.c", (10, 20, 30, 192)),
        ("rtsp://cam/1:door=50%,50%,50%,50%", "rtsp://cam/1", "door", (320, 240, 320, 240)),
    ],
)
def test_pixels_and_percent(text: str, camera: str, name: str, box: tuple[int, int, int, int]) -> None:
    wish = parse_region(text)
    assert (wish.camera, wish.name) == (camera, name)
    (part,) = Regions([wish]).split(frame(640, 480, camera))
    assert part.region is not None and part.region.box == box and part.last
    left, top, width, height = box
    assert part.looked_at.shape == (height, width, 3)
    assert (part.looked_at == part.image[top : top + height, left : left + width]).all()


@pytest.mark.parametrize(
    "text",
    [
        *("belt", "belt=1,2,3", "belt=1,2,3,4,5", "belt=a,b,c,d", "=1,2,3,4", "be lt=1,2,3,4"),
        *("belt=-1,2,3,4", "belt=1,2,0,4", "belt=50%,0,60%,10", "belt=0,0,101%,10", "belt=1e3,2,3,4"),
    ],
)
def test_what_is_no_region_is_named(text: str) -> None:
    with pytest.raises(SourceError):
        parse_region(text)


@pytest.mark.parametrize("text", ["belt=600,0,50,50", "belt=0,470,50,50", "belt=640,0,1,1"])
def test_a_region_outside_the_picture_is_a_named_error(text: str) -> None:
    with pytest.raises(SourceError, match=r"belt=.* is outside the picture of front, .* 640x480"):
        Regions([parse_region(text)]).split(frame(640, 480, "front"))


def test_a_camera_that_changes_size_is_told_and_its_regions_follow(caplog: pytest.LogCaptureFixture) -> None:
    regions = Regions([parse_region("belt=320,120,320,240")])
    boxes = []
    with caplog.at_level(logging.WARNING):
        for size in ((640, 480), (640, 480), (1280, 720), (320, 240)):
            (part,) = regions.split(frame(*size, "front"))
            assert part.region is not None
            boxes.append(part.region.box)
    assert boxes == [(320, 120, 320, 240)] * 2 + [(640, 180, 640, 360), (160, 60, 160, 120)]
    assert [record.message for record in caplog.records] == [
        "front: the pictures change from 640x480 to 1280x720",
        "front: the pictures change from 1280x720 to 320x240",
    ]


def test_regions_are_of_their_camera_and_the_last_one_says_so() -> None:
    regions = Regions(map(parse_region, ("all=0,0,4,4", "front:a=0,0,2,2", "back:b=1,1,2,2")))
    parts = regions.split(frame(8, 8, "front"))
    assert [(part.stream, part.last) for part in parts] == [(("front", "all"), False), (("front", "a"), True)]
    with pytest.raises(SourceError, match="region front:a: no such camera; there are: side"):
        regions.check(["side"])
    whole = frame(8, 8)
    assert Regions().split(whole) == [whole]


def test_drawn_regions_are_kept_beside_the_bundle(tmp_path: Path) -> None:
    path = regions_path(tmp_path / "bundle")
    assert path == tmp_path / "bundle.regions.json"
    regions = Regions([parse_region("a=1,1,2,2")], path)
    regions.keep(RegionWish("belt", ("10%", "20%", "30%", "40%"), "front"))
    again = Regions((), path)
    assert [wish.name for wish in again.listed()] == again.kept == ["belt"]
    again.remove("front", "belt")
    assert Regions((), path).listed() == []
    with pytest.raises(DataError, match="no region 'belt'"):
        again.remove("front", "belt")
    for number in range(MOST):
        again.keep(RegionWish(f"r{number}", ("0", "0", "1", "1")))
    with pytest.raises(DataError, match="at most"):
        again.keep(RegionWish("more", ("0", "0", "1", "1")))
    for text in ("{", '{"regions": [{"name": "../x", "box": ["1", "1", "1", "1"]}]}', "[]"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"bundle.regions.json cannot be read"):
            Regions((), path)


@given(
    st.tuples(st.floats(0, 99), st.floats(0, 99), st.floats(0.01, 100), st.floats(0.01, 100)),
    st.integers(1, 400),
    st.integers(1, 400),
)
def test_percent_inside_of_a_picture_never_leaves_it(
    numbers: tuple[float, float, float, float], width: int, height: int
) -> None:
    x, y, w, h = (round(number, 3) for number in numbers)
    w, h = max(0.001, min(w, round(100 - x, 3))), max(0.001, min(h, round(100 - y, 3)))
    box = tuple(f"{number:.3f}%" for number in (x, y, w, h))
    try:
        wish = RegionWish("r", box)  # type: ignore[arg-type]
    except ValueError:
        return
    (part,) = Regions([wish]).split(frame(width, height))
    assert part.looked_at.size > 0
