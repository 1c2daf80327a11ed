"""The documentation agrees with the code and is written in plain technical English."""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools import docs

ROOT = Path(__file__).parents[1]
# Idiom that a reader has to decode, with what to write instead.
IDIOM = {
    r"anew": "again",
    r"lest": "so that ... not",
    r"for want of": "because there is no",
    r"foretold": "predicted",
    r"departs?": "diverges",
    r"of the moment": "current",
    r"(?:is|are|be|was) told": "is given, is named",
    r"tells? of": "lists, reports",
    r"unless told": "by default",
    r"lies|lie(?= (?:in|on|at|below|above|beside|apart))": "is, is stored",
    r"rooms": "packages",
    r"bears?": "has, carries",
    r"hears? of": "receives",
    r"leaves with \d": "exits with",
}


def test_generated_blocks_are_those_of_the_code():
    pytest.importorskip("starlette")  # the limits of the web page are among them
    assert docs.stale(write=False) == [], "run: python -m tools.docs"


def prose(path: Path) -> str:
    """A document without code and without generated blocks."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<!-- generated: .*?<!-- end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"``?[^`\n]*``?", "", text)


@pytest.mark.parametrize("path", list(docs.documents()), ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_are_written_in_plain_english(path: Path):
    text = prose(path)
    for idiom, plain in IDIOM.items():
        found = re.search(rf"[^.\n]*\b(?:{idiom})\b[^.\n]*", text, re.IGNORECASE)
        assert found is None, f"write {plain!r}: {found[0].strip() if found else ''}"


@pytest.mark.parametrize("path", list(docs.documents()), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_document_names_exist(path: Path):
    named = re.findall(
        r"`((?:rmatk|export|runtime|tests|tools|benchmarks|docker|docs)/[\w./-]+)`", path.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []
    for name in re.findall(r"`(rmatk(?:_runtime|_export)?(?:\.\w+)+)`", path.read_text()):
        if not name.startswith("rmatk.service"):
            pkgutil.resolve_name(name)


def test_commands_in_documents_have_the_options_that_they_are_given():
    import typer

    from rmatk.cli import app, commands  # noqa: F401 - registers the commands on app

    group: Any = typer.main.get_command(app)
    checked = 0
    for path in docs.documents():
        text = re.sub(
            r"<!-- generated: .*?<!-- end -->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                for words in re.findall(r"(?:^|[$|&/] ?)rmatk ([a-z][^|&#\n]*)", line):
                    command = group.commands[words.split()[0]]
                    known = {option for parameter in command.params for option in parameter.opts}
                    given = set(re.findall(r"(?<= )--[a-z][\w-]*", words))
                    assert given <= known | {"--json"}, f"{path.name}: {line}: {given - known}"
                    checked += 1
    assert checked > 40


def texts(path: Path) -> Iterator[str]:
    """Docstrings, messages and help of a module, without names in backticks."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield re.sub(r"``?[^`\n]*``?", "", node.value)


@pytest.mark.parametrize("folder", ["rmatk", "export", "runtime", "tools", "benchmarks"])
def test_docstrings_and_messages_are_written_in_plain_english(folder: str):
    found = [
        f"{path.relative_to(ROOT)}: write {plain!r}: {match[0].strip()}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in texts(path)
        for idiom, plain in IDIOM.items()
        for match in re.finditer(rf"[^.\n]*\b(?:{idiom})\b[^.\n]*", text, re.IGNORECASE)
    ]
    assert found == []


def test_every_public_name_is_on_a_page_of_the_api():
    import rmatk

    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    for name in rmatk.__all__:
        if name != "__version__":
            assert f"`{name}`" in pages or f".{name}\n" in pages, name
