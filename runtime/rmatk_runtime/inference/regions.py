"""Parts of a camera's picture that are classified as pictures of their own."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

import msgspec

from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.files import write_atomic
from rmatk_runtime.frames import Frame, Region

log = logging.getLogger(__name__)

MOST = 16
"""Regions of one camera: each is a picture for the engine."""
_HINT = (
    "write --region belt=10%,40%,80%,40% (left, top, width, height), or --region front:belt=... for a camera"
)
_NAME = r"[\w-][\w.-]{0,39}"
_GIVEN = re.compile(rf"(?:(.+):)?({_NAME})=([^=]+)", re.DOTALL)
_NUMBER = re.compile(r"\s*(\d{1,5}(?:\.\d{1,6})?)\s*(%?)\s*")


class RegionWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A region as a person gives it: ``box`` is left, top, width and height, in pixels or as ``10%``.

    ``camera``: empty for every camera.

    Raises:
        ValueError: on construction, for what is no region of any picture.
    """

    name: str
    box: tuple[str, str, str, str]
    camera: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(f"{self.name!r} is no name of a region: letters, digits, '-', '_' and '.'")
        numbers = [_NUMBER.fullmatch(text) for text in self.box]
        if None in numbers:
            raise ValueError(f"region {self.name}: left, top, width and height are four numbers")
        for first, extent in ((0, 2), (1, 3)):
            start, size = self.measure(first, 100), self.measure(extent, 100)
            if size == 0:
                raise ValueError(f"region {self.name} is empty")
            percent = self.box[first].strip().endswith("%"), self.box[extent].strip().endswith("%")
            if (percent == (True, True) and start + size > 100) or (percent[1] and size > 100):
                raise ValueError(f"region {self.name} reaches beyond the picture: more than 100%")

    def measure(self, number: int, whole: int) -> float:
        """One of the four numbers in pixels of a picture that is ``whole`` pixels wide or high."""
        match = _NUMBER.fullmatch(self.box[number])
        assert match is not None
        return float(match[1]) * (whole / 100 if match[2] else 1)

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.camera, self.name

    def at(self, size: tuple[int, int], camera: str) -> Region:
        """The region of a picture of ``size`` (width, height) pixels. Raises SourceError: outside of it."""
        left, top, width, height = (self.measure(n, size[n % 2]) for n in range(4))
        box = int(left), int(top), max(1, round(width)), max(1, round(height))
        if (
            box[0] + box[2] > size[0] + 1
            or box[1] + box[3] > size[1] + 1
            or box[0] >= size[0]
            or box[1] >= size[1]
        ):
            of = f" of {camera}" if camera else ""
            raise SourceError(
                f"region {self.name}={','.join(self.box)} is outside the picture{of}, "
                f"which has {size[0]}x{size[1]} pixels",
                "give numbers inside of it, or percent",
            )
        return Region(self.name, (*box[:2], min(box[2], size[0] - box[0]), min(box[3], size[1] - box[1])))


def parse_region(text: str) -> RegionWish:
    """``[CAMERA:]NAME=LEFT,TOP,WIDTH,HEIGHT`` in pixels or percent. Raises SourceError."""
    match = _GIVEN.fullmatch(text)
    numbers = tuple(match[3].split(",")) if match else ()
    if match is None or len(numbers) != 4:
        raise SourceError(f"--region {text}: not a name and four numbers", _HINT)
    try:
        return RegionWish(match[2], numbers, match[1] or "")
    except ValueError as error:
        raise SourceError(str(error), _HINT) from None


class Regions:
    """The regions in use, which may be changed from any thread while frames are split.

    ``path``: where those that are drawn on the page are kept, in JSON beside the bundle.
    """

    def __init__(self, given: Iterable[RegionWish] = (), path: Path | None = None) -> None:
        self._lock = Lock()
        self._path = path
        self._kept = {} if path is None else {wish.key: wish for wish in _load(path)}
        self._given = {wish.key: wish for wish in given}
        self._sizes: dict[str, list[tuple[int, int]]] = {}  # of each camera: the first, and the last

    def listed(self) -> list[RegionWish]:
        """All of them, those given before those kept."""
        with self._lock:
            return list((self._kept | self._given).values())

    @property
    def kept(self) -> list[str]:
        """Names of those that come from the file alone."""
        with self._lock:
            return [wish.name for key, wish in self._kept.items() if key not in self._given]

    def check(self, cameras: Sequence[str]) -> None:
        """Hold that each camera with a region is there. Raises SourceError."""
        for wish in self.listed():
            if wish.camera and wish.camera not in cameras:
                there = ", ".join(filter(None, cameras)) or "none has a name: --camera front=URI gives one"
                raise SourceError(f"region {wish.camera}:{wish.name}: no such camera; there are: {there}")

    def keep(self, wish: RegionWish) -> None:
        """Use a region from now on, in the place of one with its name, and write it into the file.

        Raises:
            DataError: too many regions.
            StorageError: the file cannot be written.
        """
        with self._lock:
            known = self._kept | self._given
            if wish.key not in known and len([key for key in known if key[0] == wish.camera]) >= MOST:
                raise DataError(f"a camera has at most {MOST} regions", "remove one first")
            self._given.pop(wish.key, None)
            self._kept[wish.key] = wish
            self._save()

    def remove(self, camera: str, name: str) -> None:
        """Use a region no more. Raises DataError: there is none of this name; StorageError."""
        with self._lock:
            if (camera, name) not in self._kept | self._given:
                raise DataError(f"there is no region {name!r}")
            self._given.pop((camera, name), None)
            if self._kept.pop((camera, name), None) is not None:
                self._save()

    def _save(self) -> None:
        if self._path is not None:
            text = msgspec.json.format(msgspec.json.encode({"regions": list(self._kept.values())}))
            write_atomic(self._path, text + b"\n")

    def split(self, frame: Frame) -> list[Frame]:
        """A frame for each region of its camera, or itself where there is none.

        A camera that changes the size of its pictures is logged; regions in pixels are scaled then.

        Raises:
            SourceError: a region is outside the first picture.
        """
        size = frame.image.shape[1], frame.image.shape[0]
        sizes = self._sizes.setdefault(frame.camera, [size, size])
        if size != sizes[1] and not _are_files(frame):
            log.warning(
                "%s: the pictures change from %dx%d to %dx%d", frame.camera or frame.source, *sizes[1], *size
            )
        sizes[1] = size
        wishes = [wish for wish in self.listed() if wish.camera in ("", frame.camera)]
        first = size if _are_files(frame) else sizes[0]
        regions = [_scaled(wish.at(first, frame.camera), first, size) for wish in wishes]
        last = len(regions) - 1
        return [replace(frame, region=region, last=n == last) for n, region in enumerate(regions)] or [frame]


def _are_files(frame: Frame) -> bool:
    """Photos have a size each; a camera has one."""
    return frame.time == 0.0


def _scaled(region: Region, first: tuple[int, int], size: tuple[int, int]) -> Region:
    if first == size:
        return region
    left, top, width, height = (round(n * size[i % 2] / first[i % 2]) for i, n in enumerate(region.box))
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    box = left, top, max(1, min(width, size[0] - left)), max(1, min(height, size[1] - top))
    return Region(region.name, box)


class _File(msgspec.Struct):
    regions: list[RegionWish]


def regions_path(bundle: Path) -> Path:
    """Where the regions of a bundle are kept: ``BUNDLE.regions.json`` beside it."""
    bundle = bundle.absolute()
    return bundle.with_name(f"{bundle.name}.regions.json")


def _load(path: Path) -> list[RegionWish]:
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).regions
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path} cannot be read: {error}", "mend it, or remove it") from error
