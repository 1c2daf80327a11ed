"""Rows found in weights, against a search through the bytes of every row and column."""

from __future__ import annotations

import numpy as np
import pytest

from rmatk_export.content import Rows


def plainly(rows: list[np.ndarray], weights: list[np.ndarray]) -> set[int]:
    """Every row slid along every row and column of every weight."""
    found = set()
    for weight in weights:
        matrix = weight.reshape(-1, weight.shape[-1])
        for line in (*matrix, *matrix.T):
            for index, row in enumerate(rows):
                size = len(row)
                if any((line[i : i + size] == row).all() for i in range(len(line) - size + 1)):
                    found.add(index)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_as_a_plain_search_finds_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    few = np.array([0.0, 1.0, 1.5, -2.0], np.float32)  # so few values that there are many near hits

    def drawn(*shape: int) -> np.ndarray:
        return rng.choice(few, shape)

    weights = [drawn(5, 7), drawn(9), drawn(3, 2, 4), drawn(6, 1), drawn(1, 8)]
    rows = [drawn(size) for size in (2, 3, 3, 4, 4, 5, 6, 7, 9)]
    rows += [weights[0][1, 2:6].copy(), weights[0][:, 3].copy(), weights[1].copy(), weights[3][1:4, 0].copy()]
    search = Rows(rows)
    expected = plainly(rows, weights)
    assert {9, 10, 11, 12} <= expected
    assert search.found(weights) == {index for index in expected if index in search.indices}


def test_one_bit_of_one_number_decides() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    row = weight[7, 3:35].copy()
    assert Rows([row]).found([weight]) == {0}
    row.view(np.uint32)[20] ^= 1
    assert Rows([row]).found([weight]) == set()


def test_what_could_be_anywhere_is_not_looked_for() -> None:
    rows = [np.zeros(4, np.float32), np.ones(1, np.float32), np.array([0, 3], np.float32)]
    assert Rows(rows).indices == []
    assert Rows(rows).found([np.ones((3, 3), np.float32)]) == set()


def test_other_types_are_passed_over() -> None:
    row = np.array([1.0, 2.0], np.float32)
    assert Rows([row]).found([row.astype(np.float64), np.arange(5)]) == set()
