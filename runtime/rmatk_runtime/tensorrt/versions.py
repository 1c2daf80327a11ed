"""TensorRT versions reported to compute vision transformers wrongly: data for doctor, build and parity.

Nothing here was reproduced by this project. A version outside the table is not proven good, one inside it not
proven bad for a given graph: parity on the machine decides, the table only says where to look first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownBad:
    """A span of versions, ``first`` to ``last`` as (major, minor), both included.

    ``capability`` limits it to GPUs of that compute capability, ``11.0``; None means any.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    fault: str
    threads: tuple[str, ...]
    cure: str
    capability: str | None = None

    def warning(self, version: str) -> str:
        """One sentence for people: version, span, fault and where it was reported."""
        first, last = (".".join(map(str, bound)) for bound in (self.first, self.last))
        return f"TensorRT {version} is among {first} - {last}: {self.fault} ({', '.join(self.threads)})"


# JetPack 6.1 and 6.2 ship 10.3, JetPack 7.0 and 7.1 ship 10.13 for Thor (compute capability 11.0).
KNOWN_BAD = (
    KnownBad(
        (10, 1),
        (10, 7),
        "wrong numbers for common exports of vision transformers, in fp32 too",
        ("NVIDIA/TensorRT #4328", "#4333", "#4334", "#4419", "#4742"),
        "use 10.8 or newer if available; otherwise check each engine: rmatk parity BUNDLE",
    ),
    KnownBad(
        (10, 13),
        (10, 14),
        "engines of largest batch 1 may compute q, k and v wrongly on Thor",
        ("NVIDIA/TensorRT-Edge-LLM #151",),
        "build with a largest batch of 2 or more, and check each engine: rmatk parity BUNDLE",
        capability="11.0",
    ),
)


def known_bad(version: str, capability: str | None = None) -> KnownBad | None:
    """The row of :data:`KNOWN_BAD` for a version of TensorRT, or None.

    Args:
        version: as TensorRT states it, ``10.3.0.26``. Versions of TensorRT for RTX (1.x) are in no row.
        capability: the GPU's compute capability; rows for one kind of GPU need it to match.
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        return None
    found = int(match[1]), int(match[2])
    rows = (row for row in KNOWN_BAD if row.first <= found <= row.last)
    return next((row for row in rows if row.capability in (None, capability)), None)
