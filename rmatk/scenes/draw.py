"""Draw scenes at random: which kinds, materials, poses and cameras pretraining meets, and how often."""

from __future__ import annotations

import numpy as np

from rmatk.scenes.aerial import AERIAL
from rmatk.scenes.background import BACKGROUNDS
from rmatk.scenes.colours import COLOURS
from rmatk.scenes.fills import FILLS, USUAL_COLOURS
from rmatk.scenes.kinds import KINDS
from rmatk.scenes.pieces import MATERIALS, NATURAL
from rmatk.scenes.render import LIGHTINGS, Scene
from rmatk.scenes.split import SEEN_KINDS, Combination, is_held_out

# Shares of the modes, in the order in which draw_scene asks; the rest is land from above.
OBJECT_SHARE, NATURAL_SHARE, PIECE_SHARE, CLOSEUP_SHARE = 0.66, 0.06, 0.11, 0.07
# Plain backgrounds among those behind objects; a scrap more often lies on a plain table.
_PLAIN_SHARE, _PLAIN_PIECE_SHARE = 0.5, 0.6

_PATTERNS = ("striped", "zigzag", "dotted", "checkered", "gradient")


def pick(rng: np.random.Generator, names: tuple[str, ...] | list[str]) -> str:
    """One of the names, evenly."""
    return names[int(rng.integers(len(names)))]


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene for pretraining: never a held-out kind, never a held-out combination."""
    u = rng.uniform()
    if u < OBJECT_SHARE:
        return compose(rng, draw_combination(rng))
    u -= OBJECT_SHARE
    if u < NATURAL_SHARE:
        return compose(rng, draw_natural(rng))
    u -= NATURAL_SHARE
    if u < PIECE_SHARE:
        fill = pick(rng, MATERIALS)
        return compose(rng, ("", _colour_of(rng, fill), fill), mode="piece")
    u -= PIECE_SHARE
    if u < CLOSEUP_SHARE:
        fill = pick(rng, tuple(FILLS))
        return compose(rng, ("", _colour_of(rng, fill), fill), mode="closeup")
    return compose(rng, ("", "", ""), mode="aerial")


def draw_natural(rng: np.random.Generator) -> Combination:
    """A thing in a material it is usually made of, in a usual colour of it, as far as pretraining may see
    that.
    """
    while True:
        kind = pick(rng, tuple(NATURAL))
        fill = pick(rng, NATURAL[kind])
        combo = (kind, pick(rng, USUAL_COLOURS.get(fill, COLOURS)), fill)
        if not is_held_out(*combo):
            return combo


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
    info = KINDS.get(kind)
    size = float(rng.uniform(0.6, 1.15) if mode == "piece" else rng.uniform(0.7, 0.95))
    room = min(max(0.0, (1 - size) / 2), 0.06)
    return Scene(
        mode=mode,
        kind=kind,
        colour=colour,
        fill=fill,
        second=_second(rng, colour, fill),
        background=_background(rng, colour, mode),
        lighting="even" if rng.uniform() < 0.4 else pick(rng, LIGHTINGS),
        size=size,
        turn=float(rng.uniform(-1, 1) * (info.max_turn if info else 180.0)),
        x=0.5 + float(rng.uniform(-room, room)),
        y=0.5 + float(rng.uniform(-room, room)),
        mirrored=bool(rng.uniform() < 0.3 and info is not None and info.mirrors),
        occluded=bool(rng.uniform() < 0.1),
        blur=float(rng.uniform(0.5, 1.6)) if rng.uniform() < 0.3 else 0.0,
        noise=float(rng.uniform(0.01, 0.07)) if rng.uniform() < 0.5 else 0.0,
        jpeg=int(rng.integers(35, 90)) if rng.uniform() < 0.25 else 0,
        seed=int(rng.integers(2**62)),
    )


def _background(rng: np.random.Generator, colour: str, mode: str) -> str:
    """The background; an object is never on a plain ground of its own colour, white and grey scraps
    may.
    """
    if mode == "aerial":
        return pick(rng, tuple(AERIAL))
    piece = mode == "piece"
    if rng.uniform() >= (_PLAIN_PIECE_SHARE if piece else _PLAIN_SHARE):
        return pick(rng, tuple(BACKGROUNDS))
    if piece and rng.uniform() < 0.6:
        return pick(rng, ("white", "white", "grey", "black"))
    return pick(rng, tuple(c for c in COLOURS if c != colour))


def _colour_of(rng: np.random.Generator, fill: str) -> str:
    usual = USUAL_COLOURS.get(fill)
    return pick(rng, usual) if usual and rng.uniform() < 0.35 else pick(rng, COLOURS)


def _second(rng: np.random.Generator, colour: str, fill: str) -> str:
    """The pattern's other colour: mostly white or black, so that the named colour stays the object's
    colour.
    """
    if fill not in _PATTERNS:
        return colour
    neutral = [c for c in ("white", "black", "grey") if c != colour]
    return pick(rng, neutral) if rng.uniform() < 0.8 else pick(rng, [c for c in COLOURS if c != colour])
