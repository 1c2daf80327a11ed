"""Validation of settings: all problems at once, each named by its field."""

from __future__ import annotations

import math

from rmatk_runtime.errors import ConfigError

Problem = tuple[str, str]
"""A field, and what is wrong with its value."""


def at_least(least: float, **values: float | None) -> list[Problem]:
    """Values that are given and below ``least``, or not finite."""
    return [
        (name, f"must be at least {least:g}, not {value}")
        for name, value in values.items()
        if value is not None and not (math.isfinite(value) and value >= least)
    ]


def above(bound: float, **values: float | None) -> list[Problem]:
    """Values that are given and not above ``bound``, or not finite."""
    return [
        (name, f"must be above {bound:g}, not {value:g}")
        for name, value in values.items()
        if value is not None and not (math.isfinite(value) and value > bound)
    ]


def one_of(known: tuple[object, ...], **values: object) -> list[Problem]:
    """Values that are none of ``known``; None among these is not listed."""
    *most, last = (str(value) for value in known if value is not None)
    listed = f"{', '.join(most)} or {last}" if most else last
    return [(name, f"must be {listed}, not {value}") for name, value in values.items() if value not in known]


def require(*problems: Problem) -> None:
    """Raise ConfigError if there are any problems."""
    if problems:
        raise ConfigError(problems)
