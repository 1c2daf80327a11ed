"""A rendered data set for few-shot protocols: 16 kinds that pretraining never saw, 16 that it did.

Base-to-new trains on the first half of the classes. Of kinds that pretraining saw, which a zero-shot model
can name, only those combinations of colour and fill are rendered that it did not see. Torch-free.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from rmatk.scenes.colours import COLOURS
from rmatk.scenes.draw import compose, pick
from rmatk.scenes.fills import FILLS
from rmatk.scenes.render import render
from rmatk.scenes.split import HELD_OUT_KINDS, SEEN_KINDS, Combination, is_held_out
from rmatk_runtime.files import replacing_folder

MARKER = "rendered.txt"
_SIZE = 112
_SEEN = len(HELD_OUT_KINDS)


def rendered_kinds() -> tuple[str, ...]:
    """The 32 class names in alphabetical order, so that each half has kinds of both sorts."""
    step = len(SEEN_KINDS) // _SEEN
    return tuple(sorted((*HELD_OUT_KINDS, *SEEN_KINDS[::step][:_SEEN])))


def write_photos(
    folder: Path, *, kinds: tuple[str, ...] | None = None, train: int = 16, test: int = 20, seed: int = 0
) -> Path:
    """Render ``folder/{train,test}/<kind>/*.jpg``; equal arguments give equal files.

    ``train`` and ``test`` count the pictures per kind; ``kinds`` None: :func:`rendered_kinds`.

    Raises:
        StorageError: ``folder`` holds something else, disk full.
    """
    with replacing_folder(folder, marker=MARKER) as partial:
        for part, count in (("train", train), ("test", test)):
            for label, kind in enumerate(kinds or rendered_kinds()):
                place = partial / part / kind.replace(" ", "_")
                place.mkdir(parents=True)
                rng = np.random.default_rng([seed, part == "test", label])
                for number in range(count):
                    (place / f"{number:03d}.jpg").write_bytes(_jpeg(rng, kind))
        (partial / MARKER).write_text(f"seed {seed}\n", encoding="utf-8")
    return folder


def _jpeg(rng: np.random.Generator, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(render(compose(rng, _combination(rng, kind)), _SIZE)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _combination(rng: np.random.Generator, kind: str) -> Combination:
    """A combination of this kind that pretraining never rendered."""
    while True:
        combination = (kind, pick(rng, tuple(COLOURS)), pick(rng, tuple(FILLS)))
        if is_held_out(*combination):
            return combination
