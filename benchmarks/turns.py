"""Timing of several sides that take turns, so that noise of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

WARM = 3  # the first rounds do not count


def timed(calls: Mapping[str, Callable[[], object]], rounds: int, *, quiet: bool) -> dict[str, float]:
    """Median seconds per call, by name."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + WARM):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= WARM:
                seconds[name].append(time.perf_counter() - start)
        if not quiet and number >= WARM:
            print(number, {name: round(1e3 * values[-1], 1) for name, values in seconds.items()}, flush=True)
    return {name: statistics.median(values) for name, values in seconds.items()}
