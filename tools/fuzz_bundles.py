"""Mutated bundles whose digests fit: each gives answers or a named error, within 10 s and 512 MB.

    python tools/fuzz_bundles.py --count 300 --seed 1 --json

A tiny bundle with graphs of every precision is built. For each case one of its files is changed and the
manifest's digests are fixed up, as an attacker would. Each case opens the bundle, classifies the golden
pictures, and reads labels, golden set and engines; where the text encoder may be hit it embeds a label too.

Cases run in one worker process, without the trial that a graph has before its first use
(rmatk_runtime.onnx_runtime.trial): what then dies, is slow or takes much memory is run again in a process of
its own, as a user would, and counts as that does.

Counted (the last line with --json): ``original``, the answers of the unchanged bundle; ``other``, finite
answers that differ, which no check but a signature can refuse; ``named`` errors; ``tracebacks``; ``deaths``
of the process; ``slow``, over 10 s of processor time; ``large``, over 512 MB; ``nan`` answers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "export"), str(ROOT / "runtime")]

SECONDS, MEGABYTES = 10.0, 512
_RESTART = 3000  # cases per worker
_PATIENCE = 100.0  # seconds on the clock, of a machine that is busy, until a case counts as slow
_COUNTED = ("original", "other", "named", "tracebacks", "deaths", "slow", "large", "nan")


def build(folder: Path) -> Path:
    """The tests' tiny bundle with all precisions, and an engine that does not fit any machine."""
    from rmatk.config import TrainConfig
    from rmatk.deployment.from_run import export_source
    from rmatk.training.train import train
    from rmatk_export.bundle_writer import write_bundle
    from tests.conftest import build_tiny_clip, draw_photos_into

    tiny = build_tiny_clip()
    data = draw_photos_into(folder / "photos", {"red_stripe": 8, "green_check": 8, "blue_dot": 8})
    config = TrainConfig(model=tiny.name, shots=6, epochs=2, lr=0.02, rank=4)
    run = train(config, tiny, data, folder / "run")
    bundle = folder / "bundle"
    write_bundle(export_source(run, tiny, golden=8, precisions=("fp32", "fp16", "int8")), bundle)
    (bundle / "engines").mkdir()
    shutil.copy(ROOT / "tests/fixtures/v1.0/engine.json", bundle / "engines/tiny.json")
    (bundle / "engines/tiny.engine").write_bytes(b"no plan")
    return bundle


def mutate(original: Path, case: str, out: Path) -> str:
    """Write case ``SEED:NUMBER`` to ``out`` -> the file that was changed; the others are hard links."""
    from rmatk_runtime.bundle.manifest import MANIFEST
    from tools.bundle_mutations import BY_SUFFIX, change_bytes

    draw = random.Random(case)
    shutil.copytree(original, out, copy_function=os.link)
    files = [str(p.relative_to(original)) for p in sorted(original.rglob("*")) if p.suffix in BY_SUFFIX]
    name = draw.choice([MANIFEST, MANIFEST, *files])
    data = (original / name).read_bytes()
    change = change_bytes if draw.random() < 0.3 else BY_SUFFIX[Path(name).suffix]
    _replace(out / name, changed := change(data, draw))
    if name != MANIFEST and not name.startswith("engines"):
        _replace(out / MANIFEST, _fixed_up(original / MANIFEST, name, changed))
    return name


def _replace(path: Path, data: bytes) -> None:
    path.unlink()  # the original is linked here
    path.write_bytes(data)


def _fixed_up(manifest: Path, name: str, data: bytes) -> bytes:
    import hashlib

    content = json.loads(manifest.read_bytes())
    digest = hashlib.sha256(data).hexdigest()
    content["files"][name] = {"size": len(data), "sha256": digest}
    if name in content["provenance"]["graph_digests"]:
        content["provenance"]["graph_digests"][name] = digest
    return json.dumps(content).encode()


def answers(bundle: Path, original: Path, changed: str) -> list[Any]:
    """What a user sees of a bundle: what it says of the original's golden pictures, and more."""
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.inference.classifier import Classifier
    from rmatk_runtime.labels.text_encoder import class_embeddings
    from rmatk_runtime.tensorrt.key import Machine
    from rmatk_runtime.tensorrt.store import survey

    opened, pristine = Bundle.open(bundle), Bundle.open(original)
    pictures = pristine.golden()
    assert pictures is not None
    precision = next((p for p in ("fp16", "int8") if f".{p}." in changed), "fp32")
    with Classifier.open(bundle, backend="cpu", precision=precision) as classifier:
        rows = [
            ([score.label for score in p.top], [score.probability for score in p.top], p.rejected)
            for p in classifier.classify(pictures.images)
        ]
    opened.golden()
    survey(opened, Machine("x86_64", None, None, {}))
    if changed in ("manifest.json", "tokenizer.json", "text_encoder.onnx"):
        rows.append(class_embeddings(opened, ["red stripe"])[0].tolist())
    return rows


def judge(bundle: Path, original: Path, changed: str, expected: Any) -> tuple[str, str]:
    """What became of a mutated bundle, and a word on it."""
    from rmatk_runtime.errors import RmatkError

    try:
        found = answers(bundle, original, changed)
    except RmatkError as error:
        return "named", error.message
    except Exception:  # noqa: BLE001 - what is looked for
        return "tracebacks", traceback.format_exc()
    numbers, wanted = _numbers(found), _numbers(expected)
    if not np.isfinite(numbers).all():
        return "nan", changed
    same = _words(found) == _words(expected) and np.abs(numbers - wanted[: len(numbers)]).max() < 1e-3
    return ("original" if same else "other"), changed


def _numbers(rows: Any) -> Any:
    flat = [row[1] if isinstance(row, tuple | list) and len(row) == 3 else row for row in rows]
    return np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in flat])


def _words(rows: Any) -> list[Any]:
    return [(tuple(row[0]), bool(row[2])) for row in rows if len(row) == 3]


def work(place: str, *, trial: bool) -> None:
    """The worker: cases on standard input, one line of JSON each on standard output."""
    from rmatk_runtime.onnx_runtime import trial as trials

    if not trial:
        trials._try = lambda *_: None
    folder = Path(place)
    original = folder / "bundle"
    expected = {
        name: answers(original, original, name)
        for name in (*(p.name for p in original.iterdir() if p.is_file()), "engines/tiny.json")
    }
    for line in sys.stdin:
        case = line.strip()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            bundle = Path(scratch) / "bundle"
            changed = mutate(original, case, bundle)
            Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts again
            before = sum(os.times()[:4])
            kind, word = judge(bundle, original, changed, expected[changed])
            if (seconds := sum(os.times()[:4]) - before) > SECONDS:
                kind, word = "slow", f"{seconds:.0f} s"
        print(json.dumps([kind, word, changed, _peak()]), flush=True)


def _peak() -> float:
    """MB of resident memory at most since it was reset, of this process or a child."""
    status = Path("/proc/self/status").read_text()
    own = int(status.partition("VmHWM:")[2].split()[0])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


class Worker:
    """A process that runs cases, and can be replaced where one of them ends it."""

    def __init__(self, folder: Path, *, trial: bool) -> None:
        code = f"from tools.fuzz_bundles import work; work({str(folder)!r}, trial={trial})"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
        }
        environment["XDG_CACHE_HOME"] = str(folder / f"cache-{trial}")  # untried graphs are noted as tried
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("a"),
        )  # fmt: skip
        self.cases = 0

    def run(self, case: str, seconds: float) -> tuple[str, str, str, float]:
        """What became of a case: also ``deaths`` and ``slow``, which only its parent sees."""
        assert self.process.stdin and self.process.stdout
        self.cases += 1
        try:
            self.process.stdin.write(f"{case}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return "deaths", "before it began", "", 0.0
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return "slow", f"over {seconds:.0f} s", "", 0.0
        if not (line := self.process.stdout.readline()):
            return "deaths", f"exit code {self.process.wait()}", "", 0.0
        kind, word, changed, peak = json.loads(line)
        return ("large" if peak > MEGABYTES else kind), word, changed, peak

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def fuzz(folder: Path, count: int, seed: int, *, verbose: bool) -> dict[str, Any]:
    """Run ``count`` cases and count what became of them."""
    counts: Counter[str] = Counter()
    files: Counter[str] = Counter()
    worker, again, peak, started = Worker(folder, trial=False), 0, 0.0, time.monotonic()
    with suppress(KeyboardInterrupt):  # Ctrl-C: what was tried so far counts
        for number in range(count):
            if worker.cases >= _RESTART or worker.process.poll() is not None:
                worker.close()
                worker = Worker(folder, trial=False)
            case = f"{seed}:{number}"
            kind, word, changed, most = worker.run(case, _PATIENCE)
            if kind in ("deaths", "slow", "large"):
                worker.close()
                again += 1
                alone = Worker(folder, trial=True)
                kind, word, changed, most = alone.run(case, 3 * _PATIENCE)
                alone.close()
            peak = max(peak, most)
            counts[kind] += 1
            files[f"{changed} {kind}"] += 1
            if kind not in ("original", "named", "other") or verbose:
                print(f"{case} {changed}: {kind}: {word}", file=sys.stderr)
    worker.close()
    return {
        "tried": counts.total(), "seed": seed, **{kind: counts[kind] for kind in _COUNTED},
        "run_again_alone": again, "peak_mb": round(peak), "seconds": round(time.monotonic() - started),
        "by_file": dict(sorted(files.items())),
    }  # fmt: skip


def main() -> None:
    """Build the bundle, run the cases, print the counts; exit code 1 where one is beyond what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the counts as one object on the last line")
    parser.add_argument("--verbose", action="store_true", help="a line per case on the error stream")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rmatk-fuzz-") as place:
        build(Path(place))
        result = fuzz(Path(place), options.count, options.seed, verbose=options.verbose)
    if options.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:16} {value}")
    sys.exit(any(result[kind] for kind in ("tracebacks", "deaths", "slow", "large", "nan")))


if __name__ == "__main__":
    main()
