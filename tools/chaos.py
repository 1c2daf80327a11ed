"""Kills rmatk's commands at random moments, fills disks and makes them read-only; counts what was lost.

    python tools/chaos.py --kills 200 --json

Train, export, labels set and infer with outputs run on the tests' tiny model, each in a forked process that
is ended by SIGKILL: at a random moment, or just before a random one of its calls that open, create, rename or
remove a file in its folder. Then what it wrote is opened, the same command runs again to its end, and the
folder and the result are compared with those of a command that was never killed.

Counted (the last line with --json): ``kills`` that hit a running command; ``half_written``: a file that is
there and cannot be used; ``leftovers``: temporary files after the next run; ``wrong``: another result, or a
next run that fails. ``disks``: commands on a full or read-only disk (a tmpfs; needs the right to mount) that
end with a named error, and that run once there is space.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "export"), str(ROOT / "runtime")]

from tools.chaos_commands import Part, leftovers, parts  # noqa: E402

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
_LONGEST = 120.0  # seconds, for any command


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal; seconds; calls on files in its folder."""

    code: int
    seconds: float
    calls: int
    said: str


def run(
    folder: Path, words: tuple[str, ...], *, at_call: int | None = None, after: float | None = None
) -> Ended:
    """Run a command in a forked process, and kill it before its ``at_call``-th call or ``after`` seconds."""
    calls, log, started = folder.parent / "calls", folder.parent / "log", time.monotonic()
    calls.write_bytes(b"0")
    if (child := os.fork()) == 0:
        _become(folder, words, calls, log, at_call)
    deadline = started + (_LONGEST if after is None else after)
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.002)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended[1])
    return Ended(code, time.monotonic() - started, int(calls.read_bytes()), log.read_text(errors="replace"))


def _become(folder: Path, words: tuple[str, ...], calls: Path, log: Path, at_call: int | None) -> None:
    """The child: the command line, with its calls on files counted; never returns."""
    from rmatk.cli import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    count, place, counter = 0, str(folder), os.open(calls, os.O_WRONLY)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in _EVENTS and str(arguments[0]).startswith(place):
            count += 1
            if count == at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            os.pwrite(counter, str(count).encode(), 0)

    sys.addaudithook(note)
    sys.argv = ["rmatk", *words]
    code = 99
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def attack(part: Part, folder: Path, kills: int, draw: random.Random) -> Counter[str]:
    """Kill one command ``kills`` times, and look each time at what it left and at what the next run does."""
    part.prepare(folder)
    sound = run(folder, part.words)
    assert sound.code == 0, f"{part.name} fails by itself: {sound.said}"
    expected, counts = part.result(folder), Counter[str]()
    while counts["kills"] < kills:
        part.prepare(folder)
        if counts["kills"] % 2:
            ended = run(folder, part.words, at_call=draw.randint(1, max(sound.calls, 1)))
        else:
            ended = run(folder, part.words, after=draw.uniform(0.0, sound.seconds))
        if ended.code != -signal.SIGKILL:
            counts["ended_before"] += 1
            if counts["ended_before"] > 3 * kills:
                break
            continue
        counts["kills"] += 1
        counts["half_written"] += _fails(part, "half-written", lambda: part.whole(folder))
        again = run(folder, part.words)
        left = leftovers(folder)
        counts["leftovers"] += bool(left)
        wrong = again.code != 0 or part.result(folder) != expected
        counts["wrong"] += wrong
        if left or wrong:
            print(
                f"{part.name}: left {left}, then exit code {again.code}: {again.said[-600:]}", file=sys.stderr
            )
    return counts


def _fails(part: Part, what: str, check: Callable[[], object]) -> bool:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        print(f"{part.name}: {what}: {error!r}", file=sys.stderr)
        return True
    return False


def disks(folder: Path, commands: list[Part], draw: random.Random) -> dict[str, int] | None:
    """Commands on a disk that is full or read-only: how many were tried, failed by name, and ran afterwards.

    None where mounting is not allowed.
    """
    counts, pristine = Counter[str](), Path(shutil.copytree(folder, folder.parent / "pristine"))
    for part in commands:
        for room in (4, draw.randrange(8, 200), draw.randrange(200, 1500), 0):
            if not _mount(folder, "size=64000k"):
                return None
            try:
                shutil.copytree(pristine, folder, dirs_exist_ok=True)
                part.prepare(folder)
                used = shutil.disk_usage(folder).used // 1024
                _mount(folder, f"remount,size={used + room}k" if room else "remount,ro")
                counts.update(_on_disk(part, folder, f"{room} kB left" if room else "read-only"))
            finally:
                subprocess.run(["umount", str(folder)], check=True)
    return dict(counts)


def _mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _on_disk(part: Part, folder: Path, disk: str) -> dict[str, int]:
    """One command on a bad disk, and again on a good one."""
    ended = run(folder, part.words)
    named = ended.code in (0, 1) and "Traceback" not in ended.said
    whole = not _fails(part, disk, lambda: part.whole(folder))
    _mount(folder, "remount,rw,size=64000k")
    again = run(folder, part.words)
    sound = named and whole and again.code == 0 and not leftovers(folder)
    if not sound:
        print(f"{part.name}, {disk}: {ended.code} {ended.said[-500:]}", file=sys.stderr)
        print(f"  then {again.code} {again.said[-500:]} {leftovers(folder)}", file=sys.stderr)
    return {"tried": 1, "failed_by_name": ended.code == 1 and named, "sound_afterwards": sound}


def main() -> None:
    """Run all parts and print the counts; exit code 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="over all commands")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the counts as one object on the last line")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="rmatk-chaos-") as place:
        os.environ["XDG_CACHE_HOME"] = str(Path(place) / "cache")
        _import_everything()
        from tests.conftest import draw_photos_into

        draw_photos_into(Path(place) / "photos", {"red_stripe": 6, "green_check": 6, "blue_dot": 6})
        folder = Path(place) / "work"
        folder.mkdir()
        commands = parts(folder)
        by_command = {
            part.name: attack(part, folder, options.kills // len(commands), draw) for part in commands
        }
        full = disks(folder, commands, draw)
    kinds = ("kills", "half_written", "leftovers", "wrong")
    total = {kind: sum(counts[kind] for counts in by_command.values()) for kind in kinds}
    result = {**total, "seed": options.seed, "disks": full, "by_command": by_command}
    print(
        json.dumps(result)
        if options.json
        else "\n".join(f"{key:14} {value}" for key, value in result.items())
    )
    lost = full is not None and full["tried"] != full["sound_afterwards"]
    sys.exit(bool(lost or any(total[kind] for kind in kinds[1:])))


def _import_everything() -> None:
    """What the commands import, once for all processes; and the tiny model in place of any backbone."""
    import av  # noqa: F401
    import onnx  # noqa: F401

    import rmatk.backbones.backbone
    import rmatk.cli.commands
    import rmatk.deployment.from_run
    import rmatk.training.train
    from tests.conftest import build_tiny_clip

    tiny = build_tiny_clip()
    rmatk.backbones.backbone.load_backbone = lambda *names, **options: tiny


if __name__ == "__main__":
    main()
