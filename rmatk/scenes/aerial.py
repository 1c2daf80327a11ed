"""Land seen from above: scenes that are all texture and layout, without an object.

An image tower that only ever meets silhouettes learns outlines and forgets the rest; these scenes make it
learn colour statistics, grain, regular layouts and bands. Each is a function (rng, size) -> (size, size, 3)
float32 about 0..1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from rmatk.scenes.background import Background
from rmatk.scenes.colours import Rgb
from rmatk.scenes.fills import Field, coordinates, mixed, shaded
from rmatk.scenes.textures import Grey, sample

Ink = tuple[int, int, int]


def _land(rng: np.random.Generator, *base: float) -> Rgb:
    return np.clip(np.array(base) * rng.uniform(0.8, 1.2, 3) * rng.uniform(0.7, 1.25), 0, 1).astype(
        np.float32
    )


def _some_land(rng: np.random.Generator) -> Rgb:
    """Green, straw or bare: the colour of any land."""
    choices = ((0.25, 0.4, 0.18), (0.4, 0.45, 0.2), (0.6, 0.52, 0.32), (0.48, 0.36, 0.26), (0.3, 0.33, 0.25))
    return _land(rng, *choices[int(rng.integers(len(choices)))])


def _ground(rng: np.random.Generator, size: int, base: Rgb, depth: float = 0.12) -> Field:
    return shaded(base, 0.9 + depth * sample("pink", rng, size, float(rng.uniform(0.8, 2.0))))


def _patchwork(rng: np.random.Generator, size: int, depth: int) -> Image.Image:
    """Index image of fields: an area split again and again along a slightly slanted grid."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    lean = rng.uniform(-0.3, 0.3)
    boxes = [(-0.3 * size, -0.3 * size, 1.3 * size, 1.3 * size)]
    for _ in range(depth):
        nxt = []
        for x0, y0, x1, y1 in boxes:
            t = float(rng.uniform(0.3, 0.7))
            if (x1 - x0) > (y1 - y0):
                nxt += [(x0, y0, x0 + (x1 - x0) * t, y1), (x0 + (x1 - x0) * t, y0, x1, y1)]
            else:
                nxt += [(x0, y0, x1, y0 + (y1 - y0) * t), (x0, y0 + (y1 - y0) * t, x1, y1)]
        boxes = nxt
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        corners = [(x + lean * y, y - lean * x) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        draw.polygon(corners, fill=i)
    return image


def _fields(rng: np.random.Generator, size: int) -> Field:
    depth = int(rng.integers(1, 5))
    index = np.asarray(_patchwork(rng, size, depth))
    colours = np.stack([_some_land(rng) for _ in range(2**depth)])
    u, _ = coordinates(rng, size)
    rows = 0.04 * np.sin(u * rng.uniform(60, 180))
    result: Field = colours[index] * (0.92 + rows + 0.07 * sample("pink", rng, size))[:, :, None]
    return result


def _orchard(rng: np.random.Generator, size: int) -> Field:
    u, v = coordinates(rng, size)
    n = rng.uniform(8, 18)
    trees = ((u * n) % 1.0 - 0.5) ** 2 + ((v * n * rng.uniform(0.6, 1)) % 1.0 - 0.5) ** 2 < rng.uniform(
        0.08, 0.18
    )
    field = mixed(
        _some_land(rng),
        _land(rng, 0.15, 0.28, 0.12),
        trees.astype(np.float32) * (0.8 + 0.2 * np.clip(sample("fine", rng, size), -1, 1)),
    )
    return field * (0.95 + 0.08 * sample("pink", rng, size))[:, :, None]


def _forest(rng: np.random.Generator, size: int) -> Field:
    crowns = sample("cells" if rng.uniform() < 0.5 else "leaves", rng, size, float(rng.uniform(0.4, 0.8)))
    return shaded(_land(rng, 0.12, 0.24, 0.13), 0.8 + 0.22 * crowns + 0.12 * sample("cloud", rng, size))


def _pasture(rng: np.random.Generator, size: int) -> Field:
    field = _ground(rng, size, _land(rng, 0.36, 0.5, 0.22), 0.07)
    bushes = np.clip(sample("cells", rng, size, 0.6) - 1.5, 0, 1)[:, :, None]
    result: Field = field * (1 - 0.5 * bushes) * (1 + 0.06 * sample("smooth", rng, size))[:, :, None]
    return result


def _scrub(rng: np.random.Generator, size: int) -> Field:
    share = np.clip(sample("pink", rng, size, 0.9) * 0.7 + 0.4, 0, 1)
    return (
        mixed(_land(rng, 0.55, 0.48, 0.33), _land(rng, 0.28, 0.33, 0.17), share)
        * (0.95 + 0.1 * sample("fine", rng, size))[:, :, None]
    )


def _water(rng: np.random.Generator, size: int) -> Field:
    field = shaded(
        _land(rng, 0.07, 0.19, 0.32),
        0.95 + 0.05 * sample("smooth", rng, size) + 0.04 * sample("white", rng, size),
    )
    if rng.uniform() < 0.4:
        u, _ = coordinates(rng, size)
        distance = u + 0.1 * sample("smooth", rng, size) - rng.uniform(0.15, 0.4)
        shore = 1 / (1 + np.exp(np.clip(-distance * 90, -30, 30)))
        field = field + shore[:, :, None].astype(np.float32) * (_ground(rng, size, _some_land(rng)) - field)
    return field


def _winding(rng: np.random.Generator, size: int, amplitude: float) -> Grey:
    """Signed distance-like field to a winding line across the canvas."""
    u, v = coordinates(rng, size)
    bend = (
        np.sin(v * rng.uniform(3, 8) + rng.uniform(0, 6)) * amplitude * 0.4
        + np.sin(v * rng.uniform(8, 13)) * amplitude * 0.15
    )
    result: Field = (u + bend + rng.uniform(-0.2, 0.2)).astype(np.float32)
    return result


def _river(rng: np.random.Generator, size: int) -> Field:
    land = _fields(rng, size) if rng.uniform() < 0.5 else _forest(rng, size)
    d = np.abs(_winding(rng, size, 0.5) + 0.02 * sample("cloud", rng, size)) - rng.uniform(0.05, 0.15)
    share = (1 / (1 + np.exp(np.clip(d * 120, -30, 30))))[:, :, None].astype(np.float32)
    return land + share * (_ground(rng, size, _land(rng, 0.13, 0.24, 0.33), 0.04) - land)


def _road(rng: np.random.Generator, size: int) -> Field:
    field = _fields(rng, size)
    for _ in range(int(rng.integers(1, 4))):
        d = np.abs(_winding(rng, size, float(rng.uniform(0, 0.25))))
        width = rng.uniform(0.012, 0.035)
        tone = rng.uniform(0.45, 0.75)
        field = np.where((d < width)[:, :, None], tone, field)
        if width > 0.025:
            field = np.where((d < 0.005)[:, :, None], 0.95, field)
    return field.astype(np.float32)


def _ink(colour: Rgb) -> Ink:
    r, g, b = (int(v) for v in np.clip(colour * 255, 0, 255))
    return r, g, b


def _buildings(
    rng: np.random.Generator,
    size: int,
    pitch: float,
    fill: tuple[float, float],
    roofs: list[Rgb],
    ground: Rgb,
) -> Field:
    """Rectangular roofs with shadows in street blocks; drawn at twice the size, then reduced."""
    big = 2 * size
    image = Image.new("RGB", (big, big), _ink(ground))
    draw = ImageDraw.Draw(image)
    a = rng.uniform(-0.6, 0.6)
    c, s = np.cos(a), np.sin(a)
    street = _ink(np.full(3, rng.uniform(0.4, 0.65), dtype=np.float32))
    step = pitch * big

    def box(x: float, y: float, w: float, h: float, ink: Ink) -> None:
        corners = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
        draw.polygon(
            [(float(big / 2 + px * c - py * s), float(big / 2 + px * s + py * c)) for px, py in corners],
            fill=ink,
        )

    n = int(1.5 / pitch / 2) + 1
    every = int(rng.integers(2, 5))
    for i in range(-n, n, every):
        box(i * step - step * 0.15, -big, step * 0.28, 2 * big, street)
        box(-big, i * step - step * 0.15, 2 * big, step * 0.28, street)
    for i in range(-n, n):
        for j in range(-n, n):
            if rng.uniform() < 0.12:
                continue
            w, h = rng.uniform(*fill, 2) * step
            x, y = i * step + step * 0.2, j * step + step * 0.2
            box(x + step * 0.08, y + step * 0.08, w, h, (30, 30, 30))
            roof = roofs[int(rng.integers(len(roofs)))] * rng.uniform(0.85, 1.15)
            box(x, y, w, h, _ink(roof))
            box(x, y, w, h / 2, _ink(roof * 1.12))
    field = np.asarray(image.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
    return field * (0.97 + 0.06 * sample("fine", rng, size))[:, :, None]


def _houses(rng: np.random.Generator, size: int) -> Field:
    roofs = [_land(rng, 0.55, 0.35, 0.27), _land(rng, 0.5, 0.45, 0.42), _land(rng, 0.62, 0.55, 0.5)]
    return _buildings(
        rng, size, float(rng.uniform(0.06, 0.12)), (0.3, 0.6), roofs, _land(rng, 0.32, 0.37, 0.24)
    )


def _industry(rng: np.random.Generator, size: int) -> Field:
    roofs = [
        _land(rng, 0.8, 0.8, 0.82),
        _land(rng, 0.62, 0.64, 0.68),
        _land(rng, 0.5, 0.55, 0.65),
        _land(rng, 0.6, 0.35, 0.3),
    ]
    return _buildings(
        rng, size, float(rng.uniform(0.22, 0.4)), (0.5, 0.85), roofs, _land(rng, 0.48, 0.46, 0.44)
    )


def _desert(rng: np.random.Generator, size: int) -> Field:
    u, _ = coordinates(rng, size)
    dunes = np.sin(u * rng.uniform(15, 40) + 1.2 * sample("smooth", rng, size))
    return shaded(_land(rng, 0.8, 0.62, 0.4), 0.9 + 0.08 * dunes + 0.04 * sample("fine", rng, size))


AERIAL: dict[str, Background] = {
    "fields": Background(("a patchwork of fields", "crop fields", "farmland"), _fields),
    "orchard": Background(("an orchard", "rows of fruit trees", "a plantation"), _orchard),
    "forest": Background(("a forest", "dense woodland", "tree crowns"), _forest),
    "pasture": Background(("a pasture", "green grassland"), _pasture),
    "scrub": Background(("scrubland", "dry shrubs", "heath"), _scrub),
    "water": Background(("a lake", "open water", "the sea from above"), _water),
    "river": Background(("a river", "a winding river", "a stream"), _river),
    "road": Background(("a highway", "a road", "a road through fields"), _road),
    "houses": Background(("houses and streets", "a residential area", "a suburb"), _houses),
    "industry": Background(("factory roofs", "an industrial area", "large warehouses"), _industry),
    "desert": Background(("a desert", "sand dunes"), _desert),
}
