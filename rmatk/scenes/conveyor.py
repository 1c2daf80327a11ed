"""The demo's raw material: parts under an industrial camera over an indexing conveyor.

Kinds that pretraining never saw, drawn in another style than the pretraining scenes: machined surfaces on a
ribbed rubber belt between steel rails, ring light, vignetting, motion blur, sensor noise. The belt moves one
pitch, dwells for the inspection, and moves on, as such machines do, so that in every frame one part is
nearest the centre and in sight. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rmatk.scenes.fills import Field
from rmatk.scenes.kinds import KINDS
from rmatk.scenes.render import blurred, silhouette
from rmatk.scenes.split import HELD_OUT_KINDS
from rmatk.scenes.textures import SIDE, VARIANTS, Grey, tile

Frame = NDArray[np.uint8]

CONVEYOR_KINDS: tuple[str, ...] = HELD_OUT_KINDS[:6]

# One part per second: the belt moves for this share of it and dwells for the rest.
_MOVING = 0.3
# In units of the frame's height: distance between parts, and a part's size.
_PITCH, _PART = 0.75, (0.4, 0.5)

_FINISHES: dict[str, tuple[float, float, float]] = {
    "steel": (0.62, 0.64, 0.67),
    "zinc": (0.75, 0.77, 0.74),
    "brass": (0.74, 0.6, 0.3),
    "copper": (0.66, 0.4, 0.28),
    "blued": (0.36, 0.44, 0.62),
    "enamel": (0.68, 0.22, 0.2),
}
_BELTS = ((0.2, 0.24, 0.22), (0.22, 0.22, 0.24), (0.16, 0.27, 0.3))


@dataclass(frozen=True)
class Station:
    """What one camera over one belt has in common from frame to frame: belt (3,), its ribs' pitch, light
    and noise.
    """

    belt: NDArray[np.float32]
    rib: float
    light: float
    noise: float


def draw_station(rng: np.random.Generator) -> Station:
    """A camera and a belt at random."""
    belt = np.array(_BELTS[int(rng.integers(len(_BELTS)))], dtype=np.float32) * np.float32(
        rng.uniform(0.8, 1.3)
    )
    return Station(
        belt, float(rng.uniform(14, 26)), float(rng.uniform(0.9, 1.15)), float(rng.uniform(0.01, 0.03))
    )


def shot(kind: str, rng: np.random.Generator, size: int | tuple[int, int] = (320, 240)) -> Frame:
    """One picture of a part of this kind near the centre: (H, W, 3) uint8. ``size`` is (width, height), or
    a side.
    """
    width, height = (size, size) if isinstance(size, int) else size
    station = draw_station(rng)
    strip = _belt(station, rng, width, height)
    x = width / 2 + rng.normal(0, 0.08) * height
    _lay(strip, kind, rng, x, height / 2 + rng.normal(0, 0.02) * height)
    return _expose(strip, _vignette(width, height), station, rng, int(rng.integers(0, 3)))


def video(
    kinds: Sequence[str] = CONVEYOR_KINDS,
    seed: int = 0,
    seconds: float = 10,
    fps: int = 15,
    size: tuple[int, int] = (640, 480),
) -> Iterator[tuple[Frame, str]]:
    """Frames (H, W, 3) uint8 of parts passing by, each with the kind of the part nearest the centre."""
    rng = np.random.default_rng(seed)
    width, height = size
    labels = _sequence(kinds, int(np.ceil(seconds)) + 1, rng)
    station, pitch = draw_station(rng), _PITCH * height
    strip = _belt(station, rng, int(width + pitch * len(labels)) + 1, height)
    for i, kind in enumerate(labels):
        _lay(strip, kind, rng, width / 2 + i * pitch, height / 2 + rng.normal(0, 0.02) * height)
    shade, before = _vignette(width, height), 0.0
    for frame in range(round(seconds * fps)):
        place = _travelled(frame / fps)
        start = round(place * pitch)
        yield (
            _expose(
                strip[:, start : start + width], shade, station, rng, round((place - before) * pitch / 6)
            ),
            labels[int(place + 0.5)],
        )
        before = place


def _travelled(time: float) -> float:
    """Belt travel in pitches: a pause first, then a smooth step to the next part."""
    whole, part = divmod(time, 1.0)
    t = max(0.0, (part - (1 - _MOVING)) / _MOVING)
    return whole + t * t * (3 - 2 * t)


def _sequence(kinds: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """``n`` labels; every kind comes once before any comes again."""
    labels: list[str] = []
    while len(labels) < n:
        labels += [kinds[i] for i in rng.permutation(len(kinds))]
    return labels[:n]


def _grain(name: str, rng: np.random.Generator, width: int, height: int) -> Grey:
    """A texture tile repeated over (height, width), from a random corner."""
    x, y = (int(v) for v in rng.integers(0, SIDE, 2))
    period = np.asarray(tile(name, int(rng.integers(VARIANTS))))[y : y + SIDE, x : x + SIDE]
    return np.tile(period, (height // SIDE + 1, width // SIDE + 1))[:height, :width]


def _belt(station: Station, rng: np.random.Generator, width: int, height: int) -> Field:
    """An empty belt between two rails, (height, width, 3) float32, writable."""
    unit = height / 480
    x = np.arange(width, dtype=np.float32)[None, :]
    ribs = 0.06 * np.sin(x / (station.rib * unit) * 2 * np.pi)
    light = 0.9 + ribs + 0.1 * _grain("fine", rng, width, height) + 0.06 * _grain("cloud", rng, width, height)
    field = (light[:, :, None] * station.belt).astype(np.float32)
    rail = max(2, int(0.07 * height))
    steel = (
        0.55
        + 0.07 * _grain("fibre", rng, width, rail)
        + np.linspace(-0.15, 0.2, rail, dtype=np.float32)[:, None]
    )
    field[:rail] = steel[:, :, None]
    field[-rail:] = steel[::-1, :, None] * 0.8
    field[rail : rail + rail // 3 + 1] *= 0.45
    result: Field = field
    return result


def _lay(strip: Field, kind: str, rng: np.random.Generator, x: float, y: float) -> None:
    """Draw one part of random finish and pose onto the strip around (x, y)."""
    height = strip.shape[0]
    side = int(height * 0.66)
    scale, turn = float(rng.uniform(*_PART)) * height / side, float(rng.uniform(-180, 180))
    alpha, tone = silhouette(KINDS[kind], rng, side, scale, turn, 0.5, 0.5, bool(rng.uniform() < 0.5))
    base = np.array(_FINISHES[tuple(_FINISHES)[int(rng.integers(len(_FINISHES)))]], dtype=np.float32)
    colour = _machined(base, alpha, tone, rng)
    x0, y0 = round(x - side / 2), round(y - side / 2)
    lo_x, hi_x, lo_y, hi_y = max(0, -x0), min(side, strip.shape[1] - x0), max(0, -y0), min(side, height - y0)
    inside = (slice(lo_y, hi_y), slice(lo_x, hi_x))
    shadow = np.roll(blurred(alpha, side * 0.025), (side // 45, side // 60), (0, 1))[inside][:, :, None]
    cover = alpha[inside][:, :, None]
    patch = strip[y0 + lo_y : y0 + hi_y, x0 + lo_x : x0 + hi_x]
    patch *= 1 - 0.6 * shadow
    patch += cover * (colour[inside] - patch)


def _machined(base: NDArray[np.float32], alpha: Grey, tone: Grey, rng: np.random.Generator) -> Field:
    """The part's surface: turning marks, a chamfer catching the ring light, oil stains. (side, side, 3)
    float32.
    """
    side = alpha.shape[0]
    depth = blurred(alpha * np.clip(tone, 0, 1.2) / 1.2, side * 0.012)
    gy, gx = np.gradient(depth)
    chamfer = np.hypot(gx, gy) * side * 0.05 * np.sign(-gx - gy)
    marks = 0.06 * _grain("fibre", rng, side, side)
    stains = 0.08 * _grain("smooth", rng, side, side)
    light = 0.85 + marks + stains + 0.35 * chamfer + rng.uniform(-0.08, 0.08)
    glare = 0.25 * np.clip(_grain("smooth", rng, side, side) - 0.8, 0, 1)
    result: Field = ((light * np.clip(tone, 0.3, 1.25))[:, :, None] * base + glare[:, :, None]).astype(
        np.float32
    )
    return result


def _vignette(width: int, height: int) -> Grey:
    """The ring light's fall-off, (height, width) float32."""
    x = (np.arange(width, dtype=np.float32) / width - 0.5) * (width / height)
    y = np.arange(height, dtype=np.float32) / height - 0.5
    result: Field = np.float32(1.12) - np.float32(0.75) * (x[None, :] ** 2 + y[:, None] ** 2)
    return result


def _expose(field: Field, shade: Grey, station: Station, rng: np.random.Generator, smear: int) -> Frame:
    """Light, motion smear of ``smear`` pixels, lens blur and sensor noise: (H, W, 3) uint8."""
    if smear > 1:
        field = np.mean([np.roll(field, s, axis=1) for s in range(0, smear + 1, max(1, smear // 4))], axis=0)
    flicker = station.light * rng.uniform(0.97, 1.03)
    noise = rng.standard_normal(shade.shape, dtype=np.float32) * np.float32(station.noise)
    field = field * (shade * np.float32(flicker))[:, :, None] + noise[:, :, None]
    image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(field.shape[0] / 600)))
