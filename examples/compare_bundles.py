"""Show on which pictures two bundles give different labels, the most confident first.

python examples/compare_bundles.py old-bundle new-bundle pictures
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rmatk
from rmatk_runtime.frames import Prediction
from rmatk_runtime.pictures.files import list_images


def classify(bundle: str, pictures: list[Path], batch: int = 8) -> list[Prediction]:
    """One prediction per picture, also of those below the reject threshold."""
    predictions = []
    with rmatk.Classifier.open(bundle, batch=batch, threshold=0.0) as classifier:
        for start in range(0, len(pictures), batch):
            predictions += classifier.classify(pictures[start : start + batch])
    return predictions


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", nargs=2, metavar="BUNDLE")
    parser.add_argument("pictures", type=Path)
    args = parser.parse_args()

    pictures = list_images(args.pictures)
    old, new = (classify(bundle, pictures) for bundle in args.bundles)
    differ = [
        (a.top[0].probability, picture, a.label, b.label)
        for picture, a, b in zip(pictures, old, new, strict=True)
        if a.label != b.label
    ]
    print(f"{len(differ)} of {len(pictures)} pictures have another label")
    for probability, picture, before, after in sorted(differ, key=lambda one: -one[0]):
        print(f"{picture}: {before} ({probability:.0%}) -> {after}")


if __name__ == "__main__":
    main()
