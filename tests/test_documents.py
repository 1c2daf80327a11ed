"""The documentation agrees with the code."""

from __future__ import annotations

import pytest

from tools import docs


def test_generated_blocks_are_those_of_the_code():
    pytest.importorskip("starlette")  # the limits of the web page are among them
    assert docs.stale(write=False) == [], "run: python -m tools.docs"
