"""The catalogue of object kinds: name, synonyms, shape and how far it may turn.

Why a catalogue and not photographs: the embedded backbone must be reproducible from this repository alone.
Each kind is a silhouette with inner parts (see shapes.py); what makes it a picture (material, light,
background, camera) is added in render.py, so kinds and materials combine freely and combinations can be held
out.
"""

from __future__ import annotations

from dataclasses import dataclass

from rmatk.scenes.kinds_home import HOME
from rmatk.scenes.kinds_parts import PARTS
from rmatk.scenes.kinds_signs import SIGNS
from rmatk.scenes.kinds_small import SMALL
from rmatk.scenes.kinds_tools import TOOLS
from rmatk.scenes.shapes import Piece

# How far a kind may be turned from upright, in degrees: parts and tools lie about in any pose, a letter
# upside down is another sign (M and W) and a chair on its head is not what a camera sees.
_TURN = {"part": 30.0, "tool": 30.0, "home": 20.0, "sign": 15.0}

# Their mirror image is another sign, or none at all.
_NOT_MIRRORED = ("letter", "sign")


@dataclass(frozen=True)
class Kind:
    """One kind of object. ``pieces`` are drawn in order; ``synonyms`` begins with the name itself."""

    name: str
    group: str
    synonyms: tuple[str, ...]
    pieces: tuple[Piece, ...]
    max_turn: float
    mirrors: bool


def _catalogue() -> dict[str, Kind]:
    kinds = {}
    # the order is part of the pretraining's seed: draws are made by position
    for group, table in (("part", PARTS), ("tool", TOOLS), ("home", HOME), ("home", SMALL), ("sign", SIGNS)):
        for name, (synonyms, pieces) in table.items():
            mirrors = not any(word in name for word in _NOT_MIRRORED)
            kinds[name] = Kind(name, group, synonyms, tuple(pieces), _TURN[group], mirrors)
    return kinds


KINDS: dict[str, Kind] = _catalogue()
