"""Add a label to a bundle on the device, without training, and show what it changes for a picture.

python examples/new_labels.py my-bundle "cardboard box" photo.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rmatk
from rmatk_runtime.frames import Prediction
from rmatk_runtime.labels.editor import add_label


def classify(bundle: Path, picture: str) -> Prediction:
    """The prediction with the labels as they are now."""
    with rmatk.Classifier.open(bundle) as classifier:
        return classifier.classify([picture])[0]


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("label")
    parser.add_argument("picture")
    parser.add_argument("--prompt", action="append", default=[], help='such as "a photo of a {}."')
    args = parser.parse_args()

    before = classify(args.bundle, args.picture)
    add_label(args.bundle, args.label, args.prompt)  # embedded by the bundle's own text encoder
    after = classify(args.bundle, args.picture)  # a running rmatk infer takes it over within a second
    print(f"labels: {', '.join(rmatk.Bundle.open(args.bundle).classes().names)}")
    for name, prediction in (("before", before), ("after", after)):
        print(f"{name}: " + ", ".join(f"{score.label} {score.probability:.1%}" for score in prediction.top))


if __name__ == "__main__":
    main()
