"""A probe examines one capability of this machine, explains a failure, and never raises."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """One capability: ``reason`` says what was found, ``hint`` how to get it where not ``ok``.

    ``optional`` marks what is merely absent, as a camera on a build server is, rather than broken.
    """

    name: str
    ok: bool
    reason: str
    hint: str | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if self.ok:  # lets a probe name its cure once, whatever it finds
            object.__setattr__(self, "hint", None)
            object.__setattr__(self, "optional", False)

    def as_record(self) -> dict[str, str | bool | None]:
        """What ``rmatk doctor --json`` prints of it."""
        return {"name": self.name, "ok": self.ok, "reason": self.reason, "hint": self.hint}
