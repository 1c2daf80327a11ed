"""The progress of a build in per cent, from TensorRT's nested phases, and the way to stop it."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from rmatk_runtime.progress import OnProgress
from rmatk_runtime.tensorrt.library import TensorRt


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """TensorRT's open phases -> one percentage that never falls; thread-safe."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._open: dict[str, _Phase] = {}
        self._share = 0.0
        self._lock = Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins, inside one step of ``parent``."""
        with self._lock:
            self._open[name] = _Phase(parent, max(steps, 1))
        self._tell(name)

    def step(self, name: str, number: int) -> None:
        """Step ``number``, counted from 0, is complete."""
        with self._lock:
            if name in self._open:
                self._open[name].done = number + 1
        self._tell(name)

    def finish(self, name: str) -> None:
        """A phase ends; where it was the outermost, all is done."""
        with self._lock:
            phase = self._open.pop(name, None)
            if phase is not None and phase.parent is None:
                self._share = 1.0
        self._tell(name)

    def _tell(self, name: str) -> None:
        with self._lock:
            shares = [self._done(name) for name, phase in self._open.items() if phase.parent is None]
            self._share = share = max(self._share, *shares, 0.0)
        self._on_progress(name, int(100 * share), 100)

    def _done(self, name: str) -> float:
        """The share of one phase, its current step counted as far as the phases within it are."""
        phase = self._open[name]
        inner = max(
            (self._done(key) for key, child in self._open.items() if child.parent == name), default=0.0
        )
        return min((phase.done + inner) / phase.steps, 1.0)


def progress_monitor(trt: TensorRt, on_progress: OnProgress, stop: Event) -> Any:
    """A monitor for a builder's configuration; setting ``stop`` ends the build at its next step."""
    base: Any = trt.module.IProgressMonitor
    phases = Phases(on_progress)

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            phases.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            phases.step(name, step)
            return not stop.is_set()

        def phase_finish(self, name: str) -> None:
            phases.finish(name)

    return Monitor()
