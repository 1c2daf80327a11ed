"""The tools that look for faults find none in a few cases, and find those that are put there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BundleError
from tools.fuzz_bundles import judge, mutate

ROOT = Path(__file__).parents[1]


def test_a_mutated_bundle_is_the_same_for_the_same_case_and_its_digests_fit(
    tiny_bundle: Path, tmp_path: Path
):
    changed = set()
    for number in range(40):
        case = f"3:{number}"
        name = mutate(tiny_bundle, case, tmp_path / f"{number}")
        assert mutate(tiny_bundle, case, tmp_path / f"again {number}") == name
        assert (tmp_path / f"{number}" / name).read_bytes() == (
            tmp_path / f"again {number}" / name
        ).read_bytes()
        changed.add(name)
        if name != "manifest.json":
            try:
                Bundle.open(tmp_path / f"{number}")
            except BundleError as error:
                assert "was altered" not in error.message
    assert {"manifest.json", "tokenizer.json", "golden.npz", "text_encoder.onnx"} <= changed
    Bundle.open(tiny_bundle)


def test_what_is_no_named_error_is_seen(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    from tools import fuzz_bundles

    def fails(*arguments: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(fuzz_bundles, "answers", fails)
    assert judge(tiny_bundle, tiny_bundle, "manifest.json", [])[0] == "tracebacks"
    nan = [(["a"], [float("nan")], False)]
    monkeypatch.setattr(fuzz_bundles, "answers", lambda *arguments: nan)
    assert judge(tiny_bundle, tiny_bundle, "manifest.json", nan)[0] == "nan"


@pytest.mark.slow
@pytest.mark.parametrize("words", [("fuzz_bundles", "--count", "30"), ("chaos", "--kills", "8")])
def test_the_tools_find_nothing(words: tuple[str, ...]):
    tool, *options = words
    found = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *options, "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert json.loads(found.stdout.splitlines()[-1])
