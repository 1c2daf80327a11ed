"""Call a function whenever the label of a camera's picture changes.

python examples/camera_callback.py my-bundle 0
python examples/camera_callback.py my-bundle test:// --seconds 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import rmatk
from rmatk_runtime.frames import Frame, Prediction
from rmatk_runtime.inference.loop import run
from rmatk_runtime.sinks import Sink
from rmatk_runtime.sources import open_source


class OnChange(Sink):
    """A sink that calls ``callback`` with the new label, None while the model is not sure."""

    def __init__(self, callback: Callable[[str | None, Frame], None]) -> None:
        self._callback = callback
        self._last: str | None = None

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Compare with the last label."""
        if prediction.label != self._last:
            self._last = prediction.label
            self._callback(prediction.label, frame)


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("camera", help="0, /dev/video0, rtsp://..., test://")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    args = parser.parse_args()

    def changed(label: str | None, frame: Frame) -> None:
        print(f"{frame.time:.2f} s: {label or 'unsure'}")

    config = rmatk.InferConfig(duration=args.seconds, smooth=0.5)
    with rmatk.Classifier.open(args.bundle) as classifier, open_source(args.camera) as source:
        summary = run(source, classifier, [OnChange(changed)], config)
    print(f"{summary.frames} frames")


if __name__ == "__main__":
    main()
