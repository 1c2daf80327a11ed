"""Commands that errors and next steps name can be typed as they stand, whatever a folder is called."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rmatk_runtime import selection
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError, BundleError, command
from rmatk_runtime.tensorrt.store import rebuild_command

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(
    r"rmatk (train|eval|export|parity|infer|labels|bench|doctor|info|demo)\b[^;\n]*(\0|%s|\{\w*\})"
)


def texts(module: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module, with a NUL where a value is put in, and its line."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("room", ["rmatk", "export/rmatk_export", "runtime/rmatk_runtime"])
def test_no_command_is_put_together_without_quoting(room: str):
    modules = sorted((ROOT / room).rglob("*.py"))
    found = [f"{path}:{line}" for path in modules for line, text in texts(path) if COMMAND.search(text)]
    assert modules and not found, "use rmatk_runtime.errors.command"


def test_words_come_back_as_they_were():
    words = ["rmatk", "infer", '/my photos/it\'s "mine"', "$HOME", "plain", "--camera", "0"]
    assert shlex.split(command(*words)) == words
    assert command("rmatk", "parity", Path("/plain/bundle")) == "rmatk parity /plain/bundle"


@pytest.fixture
def spaced(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """A bundle in a folder with a space and a quote in its name."""
    return Bundle.open(shutil.copytree(tiny_bundle, tmp_path / "Tom's bundle"))


def test_a_run_in_a_bundles_place(tmp_path: Path):
    run = tmp_path / "my run"
    run.mkdir()
    (run / "run.json").touch()
    with pytest.raises(BundleError) as caught:
        Bundle.open(run)
    assert shlex.split(str(caught.value.hint)) == ["rmatk", "export", str(run), "-o", "BUNDLE"]


def test_an_engine_to_build(spaced: Bundle):
    words = ["rmatk", "export", str(spaced.path), "--trt", "--precision", "fp16"]
    assert shlex.split(rebuild_command(spaced, "fp16")) == words
    assert shlex.split(rebuild_command(spaced, "fp16", "pixels")) == [*words, "--pixels"]


def test_a_gpu_that_nothing_uses(spaced: Bundle, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise BackendError("it does not start")

    monkeypatch.setattr(selection, "_gpu_is_here", lambda: True)
    monkeypatch.setattr(selection, "_ways_of_onnx_runtime", lambda: ["cuda"])
    monkeypatch.setitem(selection._OPENERS, "cuda", refuse)
    with pytest.raises(BackendError, match="a GPU is here") as caught:
        selection.open_backend(spaced)
    typed = str(caught.value.hint).split(";")[0]
    assert shlex.split(typed) == ["rmatk", "export", str(spaced.path), "--trt"]
