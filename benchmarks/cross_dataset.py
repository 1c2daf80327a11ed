"""Cross-data-set transfer: train on a source, measure on targets under their own class names.

    python benchmarks/cross_dataset.py --data SOURCE --target DIR --target DIR --seeds 1,2,3 --json

The last line of standard output is one JSON object: every seed, mean and sample standard deviation by
method, for the source, every target, and the average over targets.
"""

from __future__ import annotations

from pathlib import Path

import torch
from common import Lines, config, finish, opened, parser

from rmatk.backbones.backbone import load_backbone
from rmatk.data.formats import open_dataset
from rmatk.evaluation.protocols import cross_dataset


def main() -> None:
    """Measure and print."""
    p = parser("Transfer of few-shot methods from one data set to others.")
    p.add_argument("--data", required=True, help="the source: labelled photos, or: rendered")
    p.add_argument("--target", action="append", required=True, type=Path, help="labelled photos; repeatable")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    settings = config(args, args.set)
    backbone = load_backbone(settings.model, settings.pretrained, args.device)
    seeds, methods = [int(seed) for seed in args.seeds.split(",")], args.methods.split(",")
    targets = {path.resolve().name: open_dataset(path, "test") for path in args.target}
    with opened(args.data) as data:
        finish(cross_dataset(backbone, data, targets, settings, seeds, methods, Lines()), args.json)


if __name__ == "__main__":
    main()
