"""How long a person waits: from the start of ``rmatk infer`` to its first result.

    python benchmarks/first_result.py BUNDLE photo.jpg --json

Each start is a process of its own; the first two warm the disk's cache and do not count. The clock starts
before the process and stops when the first JSON line arrives. The last line of standard output is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

CODE = "from rmatk.cli import main; main()"
WARM = 2


def first_line(arguments: list[str]) -> tuple[float, float]:
    """Seconds until the first line of standard output, and of processor time until the process has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode != 0 or not line:
        sys.exit(f"rmatk {' '.join(arguments)} left with {process.returncode}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("source", help="a picture, a video, or test://")
    parser.add_argument("--starts", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    args = parser.parse_args()
    command = ["infer", args.bundle, args.source, "--max-frames", "1", "--jsonl", "-"]
    measured: list[tuple[float, float]] = []
    while len(measured) < WARM + args.starts:
        measured.append(first_line(command))
        if not args.json:
            print("{:.3f} s, {:.3f} s of processor time".format(*measured[-1]), flush=True)
    seconds, processor = zip(*measured[WARM:], strict=True)
    result = {
        "first_result_s": statistics.median(seconds),
        "fastest_s": min(seconds),
        "slowest_s": max(seconds),
        "processor_s": statistics.median(processor),
        "starts": args.starts,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "load_average": os.getloadavg(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
