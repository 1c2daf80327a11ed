"""Train on a folder of photos, measure the run, and export it in two precisions.

python examples/train_and_export.py photos my-run my-bundle
"""

from __future__ import annotations

import argparse

import rmatk


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", help="one subfolder per class")
    parser.add_argument("run")
    parser.add_argument("bundle")
    parser.add_argument("--model", default="auto", help="an open_clip name, or auto")
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    def show(what: str, done: int, total: int) -> None:
        print(f"\r{what} {done}/{total}", end="", flush=True)

    config = rmatk.TrainConfig(model=args.model, epochs=args.epochs)
    run = rmatk.train(args.photos, args.run, config, on_progress=show)
    print(f"\n{len(run.record.class_names)} classes, {len(run.record.train_files)} training photos")

    report = rmatk.export(args.run, args.bundle, rmatk.ExportConfig(precisions=("fp32", "fp16"), golden=8))
    for stage in report.stages:
        print(f"{stage.stage}: {'ok' if stage else stage.reason}")


if __name__ == "__main__":
    main()
