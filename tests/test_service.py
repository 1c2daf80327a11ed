"""The systemd unit: accepted by systemd, and run by a command that exists."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[1] / "docs" / "rmatk.service"


def test_systemd_accepts_every_line(tmp_path: Path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze (package systemd) is not installed here")
    copy = tmp_path / "rmatk.service"
    copy.write_text(UNIT.read_text().replace("/opt/rmatk/bin/rmatk", "/bin/true"))  # the one that is not here
    done = subprocess.run([tool, "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # unknown settings are only written, not counted


def test_its_command_line_is_one_of_ours_and_not_roots(rmatk, tiny_bundle: Path):
    text = UNIT.read_text()
    (line,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program.endswith("/rmatk") and "\nUser=rmatk\n" in text
    stand_in = {"/var/lib/rmatk/bundle": str(tiny_bundle), "/dev/video0": "test://?frames=2&live=0"}
    code, out, _ = rmatk(*(stand_in.get(argument, argument) for argument in arguments))
    assert code == 0 and out.count('"label"') >= 2
