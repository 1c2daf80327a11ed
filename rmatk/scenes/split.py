"""What pretraining never sees: some kinds, and a fixed tenth of all (kind, colour, fill) combinations.

Held out by hashing the names themselves, so that the split depends on no seed, no order and no library
version.
"""

from __future__ import annotations

import hashlib

from rmatk.scenes.colours import COLOURS
from rmatk.scenes.fills import FILLS
from rmatk.scenes.kinds import KINDS

# The conveyor demo's parts come first (rmatk.scenes.conveyor); the others keep every group represented.
HELD_OUT_KINDS: tuple[str, ...] = (
    "wing nut",
    "bearing",
    "angle bracket",
    "spring",
    "pipe tee",
    "hinge",
    "split pin",
    "piston",
    "pliers",
    "drill",
    "teapot",
    "guitar",
    "crescent",
    "butterfly",
    "letter r",
    "no entry sign",
)

SEEN_KINDS: tuple[str, ...] = tuple(name for name in KINDS if name not in HELD_OUT_KINDS)

Combination = tuple[str, str, str]


def is_held_out(kind: str, colour: str, fill: str) -> bool:
    """True for the tenth of all combinations, and all those of held-out kinds, that pretraining never
    renders.
    """
    if kind in HELD_OUT_KINDS:
        return True
    digest = hashlib.sha256(f"{kind}|{colour}|{fill}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10 == 0


def held_out_combinations() -> list[Combination]:
    """All held-out combinations of seen kinds, in an order that is fixed but mixed (by hash)."""
    combos = [(k, c, f) for k in SEEN_KINDS for c in COLOURS for f in FILLS if is_held_out(k, c, f)]
    return sorted(combos, key=lambda combo: hashlib.sha256("/".join(combo).encode()).digest())
