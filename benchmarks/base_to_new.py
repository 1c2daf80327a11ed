"""Base-to-new generalisation: train on the first half of the classes, measure both halves, and HM.

    python benchmarks/base_to_new.py --data DIR --seeds 1,2,3 --json
    python benchmarks/base_to_new.py --data rendered --seeds 1,2,3

``DIR`` is anything that ``rmatk eval --data`` takes; ``rendered`` is rmatk.scenes.photos. The last line of
standard output is one JSON object: every seed, mean and sample standard deviation of base, new and hm by
method.
"""

from __future__ import annotations

import torch
from common import Lines, config, finish, opened, parser

from rmatk.backbones.backbone import load_backbone
from rmatk.evaluation.protocols import base_to_new


def main() -> None:
    """Measure and print."""
    p = parser("Base-to-new generalisation of few-shot methods.")
    p.add_argument("--data", required=True, help="labelled photos, or: rendered")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    settings = config(args, args.set)
    backbone = load_backbone(settings.model, settings.pretrained, args.device)
    seeds, methods = [int(seed) for seed in args.seeds.split(",")], args.methods.split(",")
    with opened(args.data) as data:
        finish(base_to_new(backbone, data, settings, seeds, methods, Lines()), args.json)


if __name__ == "__main__":
    main()
