from __future__ import annotations

import pytest

from rmatk_runtime.tensorrt.versions import KNOWN_BAD, known_bad


@pytest.mark.parametrize(
    ("version", "bad"),
    [
        ("8.6.2", False),
        ("10.0.1", False),
        ("10.1.0", True),
        ("10.3.0.26", True),
        ("10.7.0", True),
        ("10.8.0.43", False),
        ("10.13.3", False),
        ("10.30.0", False),
        ("11.2.0", False),
        ("1.7.1.116", False),  # TensorRT for RTX
        ("unknown", False),
    ],
)
def test_versions_known_bad_for_vision_transformers(version: str, bad: bool) -> None:
    row = known_bad(version)
    assert (row is not None) is bad
    if row is not None:
        text = row.warning(version)
        assert version in text and "10.1 - 10.7" in text and "#4328" in text and "rmatk parity" in row.cure


def test_a_row_for_one_kind_of_gpu_needs_that_gpu() -> None:
    row = known_bad("10.13.3.9", capability="11.0")
    assert row is not None and "Thor" in row.fault
    assert known_bad("10.13.3.9", capability="8.7") is None and known_bad("10.13.3.9") is None


def test_every_row_cites_a_thread_and_a_cure() -> None:
    for row in KNOWN_BAD:
        assert row.first <= row.last and row.cure and all("#" in thread for thread in row.threads)
