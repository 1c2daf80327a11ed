"""Which settings to prefer, decided without any test photo and without any new class.

    python benchmarks/choose_terms.py --data DIR --seeds 1,2,3 \
        --try image_con_weight=0.1,text_con_weight=0.1 --try image_con_weight=1,text_con_weight=1

Of the training part only the base classes are touched. Every seed splits them again at random into classes
to train on and classes to pretend are new; of the former 3/4 of the photos are trained on and 1/4 validated
on, of the latter all are validated on. For each ``--try`` one JSON line: mean and sample standard deviation
over seeds of base, new and hm.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import numpy as np
import torch
from common import Lines, config, opened, parser

from rmatk.backbones.backbone import load_backbone
from rmatk.data.formats import Splits
from rmatk.evaluation.protocols import base_to_new, halves


def pretend(data: Splits, seed: int) -> Splits:
    """The base classes' training photos, split by class and by photo as the module says."""
    base, _ = halves(data.train)
    random = np.random.default_rng(seed)
    mixed = base.select(random.permutation(len(base.class_names)).tolist())
    known, _ = halves(mixed)
    learnt, validated = [], []
    for number, files in enumerate(mixed.files):
        order = random.permutation(len(files))
        cut = len(files) * 3 // 4 if number < len(known.files) else 0
        learnt.append(tuple(files[i] for i in sorted(order[:cut])))
        validated.append(tuple(files[i] for i in sorted(order[cut:])))
    return Splits(data.name, replace(mixed, files=tuple(learnt)), replace(mixed, files=tuple(validated)))


def main() -> None:
    """Measure every choice and print it."""
    p = parser("Choose settings on validation shots of the base classes.")
    p.add_argument(
        "--data", required=True, help="labelled photos, or: rendered (another draw than is tested on)"
    )
    p.add_argument("--try", dest="tries", action="append", required=True, metavar="NAME=VALUE,...")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    seeds, methods = [int(seed) for seed in args.seeds.split(",")], args.methods.split(",")
    backbone = load_backbone(args.model, args.pretrained, args.device)
    with opened(args.data, seed=1, train=64) as data:
        for choice in args.tries:
            settings = config(args, [*args.set, *filter(None, choice.split(","))])
            runs = [base_to_new(backbone, pretend(data, s), settings, [s], methods, Lines()) for s in seeds]
            for index, method in enumerate(methods):
                line: dict[str, object] = {"data": args.data, "try": choice, "method": method, "seeds": seeds}
                for column in ("base", "new", "hm"):
                    values = [run.methods[index].mean[column] or 0.0 for run in runs]
                    line[column] = round(statistics.fmean(values), 4)
                    line[f"{column}_sd"] = round(statistics.stdev(values), 4) if len(values) > 1 else None
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
