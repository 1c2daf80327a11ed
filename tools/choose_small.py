"""Choose training settings for rmatk-small on validation shots of caltech101_50, never on its test photos.

    python -m tools.choose_small --data DATA/caltech101_50 --json

Adapters are trained on 8 photos of each base class (the first half of the classes) of the training part; its
other photos, of base and new classes, judge: base, new and HM, as in the base-to-new protocol. The last line
of standard output is one JSON object with every setting that was tried.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from rmatk.backbones.backbone import SMALL, load_backbone
from rmatk.config import TrainConfig
from rmatk.data.formats import open_splits
from rmatk.data.photos import Dataset
from rmatk.data.shots import few_shot
from rmatk.evaluation.features import FrozenFeatures
from rmatk.evaluation.methods import Fitted, Task, adapters, zero_shot
from rmatk.evaluation.protocols import halves, harmonic_mean

SHOTS = 8
TRIED: tuple[dict[str, Any], ...] = (
    {"epochs": 5, "lr": 3e-3},
    {"epochs": 10, "lr": 1e-3},
    {"epochs": 10, "lr": 3e-3},
    {"epochs": 10, "lr": 3e-3, "image_con_weight": 1.0, "text_con_weight": 1.0},
    {"epochs": 10, "lr": 3e-3, "image_con_weight": 5.0, "text_con_weight": 5.0},
)


def main() -> None:
    """Try every setting and print."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--seeds", default="1")
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument("--settings", help="a JSON list of settings to try instead of the list above")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    tried = json.loads(args.settings) if args.settings else TRIED
    backbone, data = load_backbone(SMALL), open_splits(args.data)
    config = TrainConfig(model=SMALL, shots=SHOTS)
    features = FrozenFeatures(backbone, config)
    found: list[dict[str, Any]] = []
    for seed in (int(seed) for seed in args.seeds.split(",")):
        train, judges = divided(data.train, seed)
        for setting in ("zero-shot", *tried):
            own = {} if setting == "zero-shot" else setting
            task = Task(
                features,
                halves(train)[0],
                config.templates,
                msgspec.structs.replace(config, seed=seed, **own),
            )
            fitted = zero_shot(task) if setting == "zero-shot" else adapters()(task)
            base, new = (accuracy(fitted, features, half, config.templates) for half in halves(judges))
            found.append(
                {"setting": setting, "seed": seed, "base": base, "new": new, "hm": harmonic_mean(base, new)}
            )
            print(found[-1], file=sys.stderr, flush=True)
    print(json.dumps({"model": SMALL, "shots": SHOTS, "tried": found}, indent=None if args.json else 2))


def divided(train: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """SHOTS photos a class, and the others of the training part."""
    shots = few_shot(train, SHOTS, seed).train
    others = tuple(
        tuple(file for file in files if file not in set(taken))
        for files, taken in zip(train.files, shots.files, strict=True)
    )
    return shots, Dataset(train.root, train.class_names, others)


def accuracy(fitted: Fitted, features: FrozenFeatures, judges: Dataset, templates: tuple[str, ...]) -> float:
    """Top-1 accuracy in [0, 1] among the judges' own classes."""
    classify = fitted(judges.class_names, templates)
    assert classify is not None
    hits = sum(int(classify(x).argmax(dim=-1).eq(x.labels).sum()) for x in features.batches(judges))
    return hits / len(judges.flat()[0])


if __name__ == "__main__":
    main()
