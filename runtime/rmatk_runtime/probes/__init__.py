"""Probes: what this machine can do, and why not. Each looks at one thing and never raises."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """One capability: ``reason`` says what was found, ``hint`` how to get it where not ``ok``."""

    name: str
    ok: bool
    reason: str
    hint: str | None = None

    def __post_init__(self) -> None:
        if self.ok:  # lets a probe name its cure once, whatever it finds
            object.__setattr__(self, "hint", None)
