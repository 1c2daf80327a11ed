"""Searches the weights of a graph for rows of numbers, bit by bit, along rows and columns.

A tower has some hundred million weights and its adapters some ten thousand rows. So every weight is looked up
once, by its first bits, among the numbers that some row must have, and only what passes is compared whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from rmatk_runtime.arrays import Float32

_PREFIX = 8  # a float32 without these last bits is an index into a table of 16 MB
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the upper bits depend on all of a number


class Rows:
    """``rows``: 1-D float32 arrays. A single number, or zeros before the last, could be anywhere: such a row
    is left out, and ``found`` tells nothing about it.

    ``indices`` are those of the rows that are looked for.
    """

    def __init__(self, rows: Sequence[Float32]) -> None:
        self._rows = [np.ascontiguousarray(row, dtype=np.float32) for row in rows]
        self.indices = [i for i, row in enumerate(self._rows) if len(row) > 1 and np.any(row[:-1])]
        # A row is recognised by its largest number and the one after it.
        self._places = {i: int(np.abs(self._rows[i][:-1]).argmax()) for i in self.indices}
        keys = [self._key(i) for i in self.indices]
        order = np.argsort(np.array(keys, dtype=np.uint64), kind="stable")
        self._keys = np.array(keys, dtype=np.uint64)[order]
        self._order = np.array(self.indices, dtype=np.int64)[order]
        self._possible = np.zeros(1 << (32 - _PREFIX), dtype=bool)
        self._possible[((self._keys & np.uint64(0xFFFFFFFF)) >> np.uint64(_PREFIX)).astype(np.int64)] = True
        self._paired = np.zeros_like(self._possible)
        self._paired[_slots(self._keys)] = True

    def _key(self, index: int) -> int:
        place = self._places[index]
        first, second = self._rows[index][place : place + 2].view(np.uint32)
        return int(first) | int(second) << 32

    def found(self, weights: Iterable[npt.NDArray[np.generic]]) -> set[int]:
        """Indices of the rows that lie, whole, in a row or a column of one of the float32 ``weights``."""
        seen: set[int] = set()
        for weight in weights:
            if weight.dtype == np.float32 and weight.size > 1:
                matrix = np.ascontiguousarray(weight).reshape(-1, weight.shape[-1])
                seen |= self._in(matrix)
        return seen

    def _in(self, matrix: Float32) -> set[int]:
        bits = matrix.view(np.uint32).ravel()
        starts = np.flatnonzero(self._possible[bits >> np.uint32(_PREFIX)])
        columns = matrix.shape[1]
        seen: set[int] = set()
        for along, step in ((True, 1), (False, columns)):
            near = starts[starts + step < bits.size]
            pairs = bits[near].astype(np.uint64) | bits[near + step].astype(np.uint64) << np.uint64(32)
            passed = self._paired[_slots(pairs)]
            near, pairs = near[passed], pairs[passed]
            first = np.searchsorted(self._keys, pairs, side="left")
            last = np.searchsorted(self._keys, pairs, side="right")
            for hit in np.flatnonzero(last > first):
                y, x = divmod(int(near[hit]), columns)
                line, at = (matrix[y], x) if along else (matrix[:, x], y)
                candidates = self._order[first[hit] : last[hit]]
                seen |= {int(index) for index in candidates if self._lies(int(index), line, at)}
        return seen

    def _lies(self, index: int, line: Float32, at: int) -> bool:
        """Whether the row's recognised number at ``line[at]`` has all of the row around it."""
        row, start = self._rows[index], at - self._places[index]
        if start < 0:
            return False
        there = np.ascontiguousarray(line[start : start + len(row)])
        return len(there) == len(row) and np.array_equal(there.view(np.uint32), row.view(np.uint32))


def _slots(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Indices into a table of as many entries as there are prefixes."""
    slots: npt.NDArray[np.uint64] = (keys * _FACTOR) >> np.uint64(32 + _PREFIX)
    return slots
