from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import ConfigError, SourceError
from rmatk_runtime.sources import SourceOptions, open_source
from rmatk_runtime.sources.options import Thinning


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (0, 480)}, "size must be at least 1x1, not 0x480"),
        ({"rate": 0.0}, "rate must be above 0, not 0"),
        ({"rate": float("nan")}, "rate must be above 0, not nan"),
        ({"flip": "sideways"}, "flip must be horizontal or vertical, not sideways"),
        ({"rotate": 45}, "rotate must be 0, 90, 180 or 270, not 45"),
        ({"start": -1.0}, "start must be at least 0"),
        ({"start": 3.0, "stop": 2.0}, "stop must be later than the start, 3 s, not 2 s"),
        ({"stop": 0.0}, "stop must be later than the start, 0 s, not 0 s"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"reconnect": -1}, "reconnect must be at least 0"),
        ({"timeout": 0.0}, "timeout must be above 0"),
    ],
)
def test_values_that_cannot_be_used_name_the_field(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceOptions(**wrong)


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"stride.*rate.*rotate"):
        SourceOptions(rotate=1, stride=0, rate=-1)


@pytest.mark.parametrize(
    ("uri", "options", "flags"),
    [
        ("{folder}", {"start": 1.0, "size": (3, 4)}, "--size and --start"),
        ("test://?live=0", {"loop": True}, "--loop"),
        ("/dev/video0", {"stride": 2}, "--stride"),
        ("rtsp://me:hunter2@cam/live", {"stop": 2.0}, "--stop"),
    ],
)
def test_what_a_source_cannot_do_is_refused_by_name(
    tmp_path: Path, uri: str, options: dict[str, Any], flags: str
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(SourceError, match=f"does not support {flags}$") as caught:
        open_source(uri.format(folder=tmp_path), options=SourceOptions(**options))
    assert "--flip" in str(caught.value.hint)
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("flip", [None, "horizontal", "vertical"])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_pictures_are_mirrored_then_turned_clockwise(flip: Any, rotate: Any) -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    picture = Image.fromarray(image)
    if flip is not None:
        side = Image.Transpose.FLIP_LEFT_RIGHT if flip == "horizontal" else Image.Transpose.FLIP_TOP_BOTTOM
        picture = picture.transpose(side)
    expected = np.asarray(picture.rotate(-rotate, expand=True))  # Pillow turns the other way
    turned = SourceOptions(flip=flip, rotate=rotate).turn(image)
    assert np.array_equal(turned, expected) and turned.flags.c_contiguous
    assert SourceOptions(rotate=rotate).turn_size((3, 2)) == (turned.shape[1], turned.shape[0])


@pytest.mark.parametrize(
    ("rate", "kept"), [(None, 60), (60, 30), (30, 30), (20, 20), (10, 10), (7, 7), (1, 1)]
)
def test_thinning_keeps_the_rate_in_spite_of_jitter(rate: float | None, kept: int) -> None:
    random = np.random.default_rng(0)
    came = 60 if rate is None else 30
    times = np.arange(came) / came + random.uniform(0, 0.2 / came, came)
    thinning = Thinning(rate)
    assert sum(thinning.keeps(float(time)) for time in times) == pytest.approx(kept, abs=1)


def test_thinning_does_not_make_up_for_a_gap() -> None:
    thinning = Thinning(10)
    assert thinning.keeps(0.0)
    assert sum(thinning.keeps(100 + number / 100) for number in range(200)) in (20, 21)
