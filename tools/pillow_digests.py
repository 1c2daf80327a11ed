"""The same tensors under several versions of Pillow, each installed into a folder of its own.

    python tools/pillow_digests.py [VERSION ...]

Without versions: the oldest that rmatk allows, the last for Python 3.10, and the newest. Prints the versions
and the number of tensors, and exits with 1 where any differs, naming each. ``--print FOLDER`` prints the
digests of its pictures under the Pillow at hand, as JSON.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from rmatk_runtime.pictures.decode import decode_image
from rmatk_runtime.pictures.preprocess import PreprocessSpec, preprocess, tensor_digest

VERSIONS = ("10.1.0", "12.3.0", "13.0.0")
_SIZES = (
    (480, 1200),
    (240, 320),
    (320, 240),
    (97, 61),
    (3, 2),
    (1, 700),
    (2000, 9),
    (333, 517),
    (1920, 1080),
)
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SPECS = {
    "clip": PreprocessSpec(224, 224, _MEAN, _STD),
    "siglip": PreprocessSpec(224, 224, (0.5,) * 3, (0.5,) * 3, resize_mode="squash"),
    "longest": PreprocessSpec(224, 224, _MEAN, _STD, resize_mode="longest", interpolation="bilinear"),
}
_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("RGB", "CMYK", "F"),
}


def pictures() -> Iterator[tuple[str, bytes]]:
    """Files of every mode and shape, by a name; encoded without what changes from one Pillow to the next."""
    rng = np.random.default_rng(0)
    for width, height in _SIZES:
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield f"{width}x{height}", _saved(Image.fromarray(pixels), "PNG")
    for kind, modes in _MODES.items():
        for mode in modes:
            small = Image.fromarray(rng.integers(0, 256, (30, 45, 3), dtype=np.uint8))
            made = small.resize((300, 200), Image.Resampling.NEAREST).convert(mode)
            yield f"{kind} {mode}", _saved(made, kind)
    for top in (255, 4000, 65535):
        grey = np.linspace(0, top, 300 * 200).reshape(200, 300).astype(np.uint16)
        yield f"16-bit to {top}", _saved(Image.fromarray(grey), "PNG")


def _saved(image: Image.Image, kind: str) -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def digests(folder: Path) -> dict[str, str]:
    """The tensor's digest of each picture in ``folder`` under each spec, with the Pillow at hand."""
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        image = decode_image(path.read_bytes(), path.name)
        found |= {f"{path.name}, {name}": tensor_digest(preprocess(image, s)) for name, s in _SPECS.items()}
    return found


def under(version: str, folder: Path, place: Path) -> dict[str, str]:
    """The digests under a Pillow, which is installed into ``place``."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place)]
    subprocess.run([*install, f"pillow=={version}"], check=True, env={**os.environ, "PIP_CONSTRAINT": ""})
    paths = [str(place), *filter(None, [os.environ.get("PYTHONPATH")]), *sys.path[1:]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, __file__, "--print", str(folder)],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
    )
    result = json.loads(done.stdout)
    assert result.pop("pillow") == version, f"Pillow {version} was not the one imported"
    return dict(result)


def main() -> int:
    """Compare, or print."""
    import PIL

    if sys.argv[1:2] == ["--print"]:
        print(json.dumps({"pillow": PIL.__version__, **digests(Path(sys.argv[2]))}))
        return 0
    versions = sys.argv[1:] or VERSIONS
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        folder.mkdir()
        for name, data in pictures():
            (folder / name).write_bytes(data)
        first, *others = [under(version, folder, Path(place, version)) for version in versions]
    differ = [name for name, digest in first.items() if any(other.get(name) != digest for other in others)]
    print(f"{len(first)} tensors under Pillow {', '.join(versions)}: {len(differ)} differ")
    for name in differ:
        print(f"  {name}", file=sys.stderr)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
