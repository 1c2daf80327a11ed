"""A frozen description of a picture, and the renderer that turns it into pixels.

``Scene`` holds what a caption can say; everything else (exact hue, grain, pose jitter) is drawn from the
scene's own seed, so equal scenes give equal pixels. Torch-free: Pillow rasterises polygons, NumPy shades
them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from rmatk.scenes.aerial import AERIAL
from rmatk.scenes.background import BACKGROUNDS, plain
from rmatk.scenes.colours import COLOURS, rgb
from rmatk.scenes.fills import FILLS, Field, Surface, coordinates
from rmatk.scenes.kinds import KINDS, Kind
from rmatk.scenes.pieces import crumpled, scrap
from rmatk.scenes.textures import Grey, sample

Pixels = NDArray[np.uint8]

LIGHTINGS: tuple[str, ...] = ("even", "bright", "dim", "warm", "cool", "side", "spot")
_TINT = {"warm": (1.1, 1.0, 0.82), "cool": (0.86, 0.99, 1.12)}


@dataclass(frozen=True)
class Scene:
    """One picture. ``mode`` is "object", "piece" (a scrap of a material), "closeup" (a material fills the
    frame) or "aerial" (land from above); kind, colour and fill are empty where the mode has none."""

    mode: str
    kind: str
    colour: str
    fill: str
    second: str
    background: str
    lighting: str
    size: float
    turn: float
    x: float
    y: float
    mirrored: bool
    occluded: bool
    blur: float
    noise: float
    jpeg: int
    seed: int


def render(scene: Scene, size: int = 112) -> Pixels:
    """The scene as (size, size, 3) uint8 RGB."""
    rng = np.random.default_rng(scene.seed)
    if scene.mode == "aerial":
        field = AERIAL[scene.background].paint(rng, size)
    elif scene.mode == "closeup":
        field = _closeup(scene, rng, size)
    else:
        field = _object(scene, rng, size)
    return camera(lit(field, scene.lighting, rng), rng, scene.blur, scene.noise, scene.jpeg)


def backdrop(name: str, rng: np.random.Generator, size: int) -> Field:
    """A background by name; the name of a colour is a plain one. (size, size, 3) float32."""
    return plain(rng, size, name) if name in COLOURS else BACKGROUNDS[name].paint(rng, size)


def _closeup(scene: Scene, rng: np.random.Generator, size: int) -> Field:
    surface = FILLS[scene.fill](rgb(scene.colour, rng), rgb(scene.second, rng), rng, size)
    if surface.opacity == 1.0:
        return surface.colour
    behind = backdrop(scene.background, rng, size)
    return surface.colour * surface.opacity + behind * (1 - surface.opacity)


def _object(scene: Scene, rng: np.random.Generator, size: int) -> Field:
    field = backdrop(scene.background, rng, size)
    surface = FILLS[scene.fill](rgb(scene.colour, rng), rgb(scene.second, rng), rng, size)
    kind = KINDS[scene.kind] if scene.kind else scrap(rng)
    alpha, tone = silhouette(kind, rng, size, scene.size, scene.turn, scene.x, scene.y, scene.mirrored)
    if scene.mode == "piece":
        surface = replace(surface, colour=crumpled(surface.colour, scene.fill, rng))
    field = cast_shadow(field, alpha, rng)
    field = laid_over(field, surface, alpha, tone, rng)
    return _occlude(field, rng, scene) if scene.occluded else field


def silhouette(
    kind: Kind,
    rng: np.random.Generator,
    size: int,
    scale: float,
    turn: float,
    x: float,
    y: float,
    mirrored: bool,
) -> tuple[Grey, Grey]:
    """Rasterise a kind: its mask and its tone (1 = own colour), each (size, size) float32, antialiased.

    ``scale`` is the object's width as a share of the canvas, ``turn`` in degrees, (x, y) its centre in 0..1.
    """
    big = 2 * size
    a = np.deg2rad(turn)
    stretch = np.array([rng.uniform(0.85, 1.15), 1.0]) * (-1.0 if mirrored else 1.0, 1.0)
    shear = np.array([[1.0, rng.normal(0, 0.08)], [rng.normal(0, 0.08), 1.0]])
    matrix = (np.diag(stretch) @ shear @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])) * (
        scale * big / 2
    )
    centre = np.array([x * big, y * big])
    mask, tone = Image.new("L", (big, big)), Image.new("L", (big, big), 120)
    draw_mask, draw_tone = ImageDraw.Draw(mask), ImageDraw.Draw(tone)
    for piece in kind.pieces:
        points = [tuple(p) for p in (piece.points @ matrix + centre).tolist()]
        draw_mask.polygon(points, fill=255 if piece.shade > 0 else 0)
        if piece.shade > 0:
            draw_tone.polygon(points, fill=int(min(piece.shade * 120, 255)))
    small = (size, size)
    box = Image.Resampling.BOX
    return (
        np.asarray(mask.resize(small, box), dtype=np.float32) / 255,
        np.asarray(tone.resize(small, box), dtype=np.float32) / 120,
    )


def blurred(a: Grey, radius: float) -> Grey:
    """Gaussian blur of a mask (S, S) in 0..1."""
    image = Image.fromarray((a * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, dtype=np.float32) / 255


def cast_shadow(field: Field, alpha: Grey, rng: np.random.Generator) -> Field:
    """Darken the ground beside the object: a soft or hard shadow, shifted away from the light."""
    size = alpha.shape[0]
    dx, dy = (int(v) for v in rng.integers(-size // 20, size // 20 + 1, 2))
    shadow = np.roll(blurred(alpha, float(rng.uniform(1.0, 5.0))), (dy, dx), (0, 1))
    return field * (1 - shadow * rng.uniform(0.1, 0.55))[:, :, None]


def laid_over(field: Field, surface: Surface, alpha: Grey, tone: Grey, rng: np.random.Generator) -> Field:
    """Put a surface cut out by ``alpha`` over the field, with relief and highlights from the mask's soft
    slopes.
    """
    height = blurred(alpha * np.clip(tone, 0, 1.2) / 1.2, alpha.shape[0] * float(rng.uniform(0.012, 0.03)))
    gy, gx = np.gradient(height)
    direction = rng.uniform(0, 2 * np.pi)
    slope = (gx * np.cos(direction) + gy * np.sin(direction)) * (alpha.shape[0] / 10)
    colour = (
        surface.colour
        * (np.where(tone > 1, 1 + (tone - 1) * 0.6, tone) * (1 + surface.relief * slope * 1.6))[:, :, None]
    )
    colour = colour + (np.clip(tone - 1.05, 0, 1) * 0.35)[:, :, None]
    if surface.gloss > 0:
        colour = colour + (surface.gloss * np.clip(slope - 0.25, 0, 1) * 0.9)[:, :, None]
    share = (alpha * surface.opacity)[:, :, None]
    if surface.opacity < 1:
        # a transparent thing shows most at its rim
        rim = np.clip(np.hypot(gx, gy) * (alpha.shape[0] / 6), 0, 1)
        share = share + (alpha * (1 - surface.opacity) * rim * 0.8)[:, :, None]
    result: Field = (field * (1 - share) + colour * share).astype(np.float32)
    return result


def _occlude(field: Field, rng: np.random.Generator, scene: Scene) -> Field:
    """A bar or a disc of another colour in front of a smaller part of the object."""
    size = field.shape[0]
    u, v = coordinates(rng, size)
    reach = scene.size * rng.uniform(0.3, 0.5)
    cx, cy = scene.x - 0.5, scene.y - 0.5
    a = rng.uniform(0, 2 * np.pi)
    if rng.uniform() < 0.5:
        hidden = np.abs(u - rng.uniform(-0.25, 0.25)) < rng.uniform(0.03, 0.07)
    else:
        hidden = (u - cx - np.cos(a) * reach) ** 2 + (v - cy - np.sin(a) * reach) ** 2 < rng.uniform(
            0.07, 0.14
        ) ** 2
    colour = rgb(str(rng.choice(COLOURS)), rng) * 0.85 + 0.05
    cover = colour * (0.9 + 0.08 * sample("pink", rng, size))[:, :, None]
    return np.where(hidden[:, :, None], cover, field).astype(np.float32)


def lit(field: Field, lighting: str, rng: np.random.Generator) -> Field:
    """Global light: strength, mild white balance, fall-off from a side or a spot. (S, S, 3) in and out."""
    gain = {"bright": rng.uniform(1.15, 1.35), "dim": rng.uniform(0.4, 0.62)}.get(
        lighting, rng.uniform(0.88, 1.1)
    )
    tint = np.array(_TINT.get(lighting, (1, 1, 1))) * rng.uniform(0.97, 1.03, 3) * gain
    field = field * tint.astype(np.float32)
    size = field.shape[0]
    if lighting == "side":
        u, _ = coordinates(rng, size)
        field = field * (0.8 + u * rng.uniform(0.6, 1.0))[:, :, None]
    elif lighting == "spot":
        axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        x, y = rng.uniform(-0.15, 0.15, 2)
        d = (axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2
        field = field * (0.35 + 0.85 * np.exp(-d / rng.uniform(0.08, 0.16)))[:, :, None]
    return field.astype(np.float32)


def camera(field: Field, rng: np.random.Generator, blur: float, noise: float, jpeg: int) -> Pixels:
    """Lens blur, sensor noise, clipping and, where ``jpeg`` > 0, compression at that quality. To (S, S, 3)
    uint8.
    """
    if noise > 0:
        field = field + rng.standard_normal(field.shape, dtype=np.float32) * np.float32(noise)
    image = Image.fromarray((np.clip(field, 0, 1) * 255 + 0.5).astype(np.uint8))
    if blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(blur * field.shape[0] / 112))
    if jpeg > 0:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=jpeg)
        image = Image.open(buffer, formats=("JPEG",))
    return np.asarray(image.convert("RGB"))
