"""What the README tells people to type is what the gate runs."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", ["pip install -q -e '.[dev]'", "pytest", "rmatk demo"])
def test_the_gate_runs_the_readmes_commands(command: str):
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert command in gate
    assert command.replace(" -q", "") in readme


def test_documents_that_are_linked_exist():
    import re

    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_lines_of_documents_fit_a_screen():
    """Tables and code are as wide as they are."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert len(documents) > 10
    for document in documents:
        code = False
        for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
            code ^= line.lstrip().startswith("```")
            assert code or line.startswith("|") or len(line) <= 130, f"{document.name}, line {number}"
