"""A bounded pool of rendered scenes for pretraining, renewed by worker processes while training runs.

The pool is a ring of segments; segment g is rendered from the seed (seed, g) alone. Which segments a step
sees depends on the step's number only, so a resumed run sees what an uninterrupted one would have.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rmatk.scenes import Scene, draw_scene, render

SEGMENT = 1024
SIDE = 112
# One picture in OTHERS of a batch may show no object.
OTHERS = 4

Segment = tuple[NDArray[np.uint8], list[Scene]]


def render_segment(seed: int, number: int) -> Segment:
    """Segment ``number``: pictures (SEGMENT, SIDE, SIDE, 3) uint8 and their scenes."""
    rng = np.random.default_rng([seed, number])
    scenes = [draw_scene(rng) for _ in range(SEGMENT)]
    return np.stack([render(scene, SIDE) for scene in scenes]), scenes


def _told_apart_by(scene: Scene) -> tuple[str, ...]:
    """What has to differ between any two scenes of a batch."""
    if scene.mode == "aerial":
        return ("land", scene.background)
    return ("kind", scene.kind) if scene.kind else ("material", scene.colour, scene.fill)


class ScenePool:
    """The newest ``segments`` segments, and the next few being rendered by ``workers`` niced processes."""

    def __init__(self, seed: int, segments: int, workers: int, first: int = 0) -> None:
        self._seed = seed
        self._executor = ProcessPoolExecutor(workers, initializer=os.nice, initargs=(5,))
        self._waiting: deque[Future[Segment]] = deque()
        self._next = first
        self._images = np.empty((segments * SEGMENT, SIDE, SIDE, 3), dtype=np.uint8)
        self._scenes: list[Scene] = []
        for _ in range(segments):
            self._order()
        for slot in range(segments):
            self._scenes += [None] * SEGMENT  # type: ignore[list-item]
            self._store(slot, self._waiting.popleft().result())
        for _ in range(workers):
            self._order()

    def _order(self) -> None:
        self._waiting.append(self._executor.submit(render_segment, self._seed, self._next))
        self._next += 1

    def _store(self, slot: int, segment: Segment) -> None:
        start = slot * SEGMENT
        self._images[start : start + SEGMENT], self._scenes[start : start + SEGMENT] = segment

    def renew(self, slot: int) -> None:
        """Replace one segment by the next rendered one; waits for it if need be."""
        self._store(slot % (len(self._scenes) // SEGMENT), self._waiting.popleft().result())
        self._order()

    def sample(self, rng: np.random.Generator, n: int) -> tuple[NDArray[np.uint8], list[Scene]]:
        """``n`` pictures (n, SIDE, SIDE, 3) uint8 and scenes; no two that one caption could fit.

        Two objects of one kind, two pictures of the same land or of the same material in the same colour
        would be each other's false negatives. One object of each kind also makes the kind what tells a batch
        apart.
        """
        chosen: list[int] = []
        taken: set[tuple[str, ...]] = set()
        room = n // OTHERS
        while len(chosen) < n:
            index = int(rng.integers(len(self._scenes)))
            scene = self._scenes[index]
            key = _told_apart_by(scene)
            if key not in taken and (scene.kind or room > 0):
                room -= not scene.kind
                taken.add(key)
                chosen.append(index)
        return self._images[chosen], [self._scenes[i] for i in chosen]

    def close(self) -> None:
        """Stop the workers."""
        self._executor.shutdown(wait=False, cancel_futures=True)
