"""The help of every command: whole sentences in the list, words instead of Python types."""

from __future__ import annotations

import re

import pytest

COMMANDS = ("bench", "demo", "doctor", "eval", "export", "infer", "info", "parity", "sign", "train", "labels")
LABELS = [("labels", "BUNDLE", name) for name in ("list", "add", "remove", "rename", "set")]


def test_the_list_of_commands_is_complete_and_cuts_no_sentence(rmatk):
    code, out, _ = rmatk("--help")
    listed = out.partition("Commands:")[2]
    assert code == 0 and sorted(line.split()[0] for line in listed.splitlines() if line) == sorted(COMMANDS)
    assert "..." not in listed


@pytest.mark.parametrize("words", [*((name,) for name in COMMANDS), *LABELS], ids=" ".join)
def test_values_are_named_in_words(rmatk, words: tuple[str, ...]):
    """``--shots N``, not ``--shots <int>``; of arguments Typer adds ``<path>``, but no lists or ranges."""
    code, out, _ = rmatk(*words, "--help")
    options = out.partition("Options:")[2]
    assert code == 0 and not re.search(r"<(int|float|str|path|Path|list)\b", options) and "list[" not in out
