"""Draw scenes at random: which kinds, materials, poses and cameras pretraining meets, and how often."""

from __future__ import annotations

import numpy as np

from rmatk.scenes.aerial import AERIAL
from rmatk.scenes.background import BACKGROUNDS
from rmatk.scenes.colours import COLOURS
from rmatk.scenes.fills import FILLS, USUAL_COLOURS
from rmatk.scenes.kinds import KINDS
from rmatk.scenes.render import LIGHTINGS, Scene
from rmatk.scenes.split import SEEN_KINDS, Combination, is_held_out

# Shares of the three modes, and of plain backgrounds among those behind objects.
OBJECT_SHARE, CLOSEUP_SHARE = 0.72, 0.14
_PLAIN_SHARE = 0.3

_PATTERNS = ("striped", "zigzag", "dotted", "checkered", "gradient")


def pick(rng: np.random.Generator, names: tuple[str, ...] | list[str]) -> str:
    """One of the names, evenly."""
    return names[int(rng.integers(len(names)))]


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene for pretraining: never a held-out kind, never a held-out combination."""
    u = rng.uniform()
    if u < OBJECT_SHARE:
        return compose(rng, draw_combination(rng))
    if u < OBJECT_SHARE + CLOSEUP_SHARE:
        fill = pick(rng, tuple(FILLS))
        return compose(rng, ("", _colour_of(rng, fill), fill), mode="closeup")
    return compose(rng, ("", "", ""), mode="aerial")


def draw_combination(rng: np.random.Generator, kind: str | None = None) -> Combination:
    """A (kind, colour, fill) that pretraining may see."""
    while True:
        fill = pick(rng, tuple(FILLS))
        combo = (kind or pick(rng, SEEN_KINDS), _colour_of(rng, fill), fill)
        if not is_held_out(*combo):
            return combo


def compose(rng: np.random.Generator, combo: Combination, mode: str = "object") -> Scene:
    """A scene of this combination: everything the combination leaves open is drawn."""
    kind, colour, fill = combo
    plain = rng.uniform() < _PLAIN_SHARE
    others = tuple(c for c in COLOURS if c != colour)
    background = pick(rng, others if plain else tuple(BACKGROUNDS))
    if mode == "aerial":
        background = pick(rng, tuple(AERIAL))
    info = KINDS.get(kind)
    size = float(rng.uniform(0.55, 0.95))
    room = max(0.0, (1 - size) / 2)
    return Scene(
        mode=mode, kind=kind, colour=colour, fill=fill,
        second=_second(rng, colour, fill),
        background=background,
        lighting="even" if rng.uniform() < 0.4 else pick(rng, LIGHTINGS),
        size=size,
        turn=float(rng.uniform(-1, 1) * (info.max_turn if info else 0.0)),
        x=0.5 + float(rng.uniform(-room, room)),
        y=0.5 + float(rng.uniform(-room, room)),
        mirrored=bool(rng.uniform() < 0.5 and info is not None and info.mirrors),
        occluded=bool(rng.uniform() < 0.15),
        blur=float(rng.uniform(0.5, 1.6)) if rng.uniform() < 0.3 else 0.0,
        noise=float(rng.uniform(0.01, 0.07)) if rng.uniform() < 0.5 else 0.0,
        jpeg=int(rng.integers(35, 90)) if rng.uniform() < 0.25 else 0,
        seed=int(rng.integers(2**62)),
    )  # fmt: skip


def _colour_of(rng: np.random.Generator, fill: str) -> str:
    usual = USUAL_COLOURS.get(fill)
    return pick(rng, usual) if usual and rng.uniform() < 0.35 else pick(rng, COLOURS)


def _second(rng: np.random.Generator, colour: str, fill: str) -> str:
    """The pattern's other colour: mostly white or black, so that the named colour stays the object's colour."""
    if fill not in _PATTERNS:
        return colour
    neutral = [c for c in ("white", "black", "grey") if c != colour]
    return pick(rng, neutral) if rng.uniform() < 0.8 else pick(rng, [c for c in COLOURS if c != colour])
