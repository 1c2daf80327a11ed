"""Sort the pictures of a folder by label; what the model is not sure of goes to "unsure".

python examples/classify_folder.py my-bundle inbox sorted
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import rmatk
from rmatk_runtime.pictures.files import list_images


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--least", type=float, default=0.5, help="least probability of a label")
    args = parser.parse_args()

    with rmatk.Classifier.open(args.bundle, threshold=args.least) as classifier:
        for picture in list_images(args.pictures):
            (prediction,) = classifier.classify([picture])
            folder = args.out / (prediction.label or "unsure")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(picture, folder / picture.name)
            print(f"{picture.name}: {prediction.label or 'unsure'} ({prediction.top[0].probability:.0%})")


if __name__ == "__main__":
    main()
