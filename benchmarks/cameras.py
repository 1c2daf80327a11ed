"""What the fast ways for cameras cost against rmatk at e04a74c: both sides in one run, medians of CPU time.

    python benchmarks/cameras.py [--json] [--repeats N]

The baseline is a git worktree of e04a74c that this script makes and removes. Each side runs in a process of
its own, alternating, so that a busy machine slows both. Reported is new over old: ``prepare_1080p`` and
``prepare_2160p`` from a frame to the network's tensor (224 pixels); ``prepare_1080p_extra`` the same with
cykooz-resizer, null where it is not installed; ``photo_12mp`` from a JPEG of 4032x3024 to the tensor.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BASELINE = "e04a74c"
_ROOT = Path(__file__).parents[1]
_COMMON = """
import json, statistics, sys, time
import numpy as np
from pathlib import Path
from PIL import Image
frames, photo, repeats = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
def median(work, given):
    found = []
    for _ in range(repeats + 1):
        fresh = given.copy() if isinstance(given, np.ndarray) else given  # as a source gives each frame
        start = time.process_time()
        work(fresh)
        found.append(time.process_time() - start)
    return statistics.median(found[1:])
hd, uhd = (np.load(frames / f"{size}.npy") for size in ("1080p", "2160p"))
"""
_OLD = (
    _COMMON
    + """
from rmatk_runtime.preprocess import PreprocessSpec, load_image, normalise, resize
spec = PreprocessSpec(224, 224, mean, std)
def prepare(image): return normalise(np.stack([resize(image, spec)]), spec)
print(json.dumps({"prepare_1080p": median(prepare, hd), "prepare_2160p": median(prepare, uhd),
                  "photo_12mp": median(lambda file: prepare(np.asarray(load_image(file))), photo)}))
"""
)
_NEW = (
    _COMMON
    + """
from rmatk_runtime.pictures import fast_resize as fast
from rmatk_runtime.pictures.decode import Decoding, load_image
from rmatk_runtime.pictures.preprocess import PreprocessSpec, normalise
spec = PreprocessSpec(224, 224, mean, std)
def prepare(image): return normalise(np.stack([fast.fast_resize(image, spec)]), spec)
there, fast.has_extra = fast.has_extra(), lambda: False
result = {"prepare_1080p": median(prepare, hd), "prepare_2160p": median(prepare, uhd)}
draft = Decoding(draft=fast.draft_size(spec))
result["photo_12mp"] = median(lambda file: prepare(np.asarray(load_image(file, draft))), photo)
fast.has_extra = lambda: True
result["prepare_1080p_extra"] = median(prepare, hd) if there else None
print(json.dumps(result))
"""
)


def _material(folder: Path) -> Path:
    """Frames and a photo with structure at all sizes; returns the photo."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, (width, height) in {
        "1080p": (1920, 1080),
        "2160p": (3840, 2160),
        "photo": (4032, 3024),
    }.items():
        small = Image.fromarray(rng.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8))
        picture = small.resize((width, height), Image.Resampling.BICUBIC)
        if name == "photo":
            picture.save(folder / "photo.jpg", quality=92)
        else:
            np.save(folder / f"{name}.npy", np.asarray(picture))
    return folder / "photo.jpg"


def _run(code: str, rooms: list[Path], arguments: list[str]) -> dict[str, float | None]:
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    others = [path for path in inherited if not Path(path).is_relative_to(_ROOT)]
    path = os.pathsep.join([*map(str, rooms), *others])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def _rooms(root: Path) -> list[Path]:
    return [root, root / "export", root / "runtime"]


def measure(repeats: int, rounds: int = 3) -> dict[str, float | None]:
    """New over old, by name."""
    with tempfile.TemporaryDirectory() as place:
        old = Path(place, "baseline")
        subprocess.run(
            ["git", "-C", str(_ROOT), "worktree", "add", "-q", "--detach", str(old), BASELINE], check=True
        )
        try:
            arguments = [place, str(_material(Path(place))), str(repeats)]
            pairs = [
                (_run(_OLD, _rooms(old), arguments), _run(_NEW, _rooms(_ROOT), arguments))
                for _ in range(rounds)
            ]
        finally:
            subprocess.run(["git", "-C", str(_ROOT), "worktree", "remove", "--force", str(old)], check=True)
    result: dict[str, float | None] = {}
    for name, value in pairs[0][1].items():
        before = name.removesuffix("_extra")
        ratios = [
            n / o for was, now in pairs if (n := now[name]) is not None and (o := was[before]) is not None
        ]
        result[name] = None if value is None else round(statistics.median(ratios), 3)
        if value is not None:
            print(f"{name}: {result[name]}", file=sys.stderr)
    return result


def main() -> None:
    """Measure and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=15, help="of each measurement, per round")
    parser.add_argument("--json", action="store_true", help="only the JSON object on standard output")
    given = parser.parse_args()
    result = measure(given.repeats)
    if not given.json and importlib.util.find_spec("cykooz_resizer") is None:
        print("prepare_1080p_extra: not measured; pip install 'rmatk[fast]'")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
