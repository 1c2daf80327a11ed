"""``python -m rmatk`` is the command line, and its help follows the whole way."""

from __future__ import annotations

import subprocess
import sys


def test_the_module_is_the_command_line_and_help_begins_where_a_newcomer_does():
    done = subprocess.run([sys.executable, "-m", "rmatk", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    listed = [line.split()[0] for line in done.stdout.split("Commands:\n")[1].splitlines() if line.strip()]
    expected = "demo train eval export parity infer bench labels sign info doctor"
    assert listed == expected.split()
    wrong = subprocess.run([sys.executable, "-m", "rmatk", "nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "No such command" in wrong.stderr
