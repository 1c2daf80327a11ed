"""Measure rmatk-small as it is in the package; the last line of standard output is one JSON object.

    python -m tools.eval_small --data DATA --seeds 1,2,3,4,5 --json

``DATA`` holds labelled photos, ``caltech101_50``, ``trashnet`` and ``eurosat``, none of which the model was
trained on. Accuracies are in percent: mean and sample deviation over the seeds, each of which draws its own
shots. ``hm``: base-to-new on caltech101_50, by method, and RMAdapter minus each other method over the same
seeds, with the standard error of that difference. ``transfer_points``: average over the other sets after
training on caltech101_50, minus zero-shot. ``latency_ms``: the folded fp32 graph, one photo, one core.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from rmatk.backbones.backbone import SMALL, Backbone, load_backbone
from rmatk.config import TrainConfig
from rmatk.data.formats import open_dataset, open_splits
from rmatk.demo import demo
from rmatk.deployment.from_run import adapted_towers
from rmatk.evaluation.protocols import (
    MethodResult,
    ProtocolResult,
    base_to_new,
    cross_dataset,
    few_shot_accuracy,
)
from rmatk.method.model import AdaptedClip
from rmatk_export.fold import fold
from rmatk_export.graph.encoder import image_graph

OURS, ZERO_SHOT = "rmadapter", "zero-shot"
HM_METHODS = (ZERO_SHOT, "adapter-only", OURS)
SOURCE, SETS = "caltech101_50", ("caltech101_50", "trashnet", "eurosat")
PARTS = ("few_shot", "hm", "demo", "latency")
Summary = dict[str, float | None]


class Lines:
    """Prints on the error stream what has been measured, one line per method and seed."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """See :data:`~rmatk_runtime.progress.OnProgress`."""
        if done > self._done:
            self._done = done
            print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    p.add_argument("--seeds", default="1,2,3,4,5")
    p.add_argument("--model", default=SMALL)
    p.add_argument("--parts", default=",".join(PARTS), help="what to measure")
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument("--json", action="store_true", help="one JSON object on one line")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    seeds, parts = [int(seed) for seed in args.seeds.split(",")], args.parts.split(",")
    backbone, result = load_backbone(args.model), {"model": args.model, "seeds": seeds}
    result["backbone_digest"] = backbone.digest
    if "few_shot" in parts:
        result |= few_shot(backbone, args.data, seeds)
    if "hm" in parts:
        result["hm"] = base_and_new(backbone, args.data, seeds)
    if "demo" in parts:
        result |= the_demo(seeds[0])
    if "latency" in parts:
        result["latency_ms"] = latency(backbone)
    print(json.dumps(result, indent=None if args.json else 2))


def few_shot(backbone: Backbone, data: Path, seeds: list[int]) -> dict[str, Any]:
    """Zero-shot and RMAdapter from 16 shots a class, all classes of every set; and what training on the
    source does to the other sets."""
    config, methods = TrainConfig(model=backbone.name), (ZERO_SHOT, OURS)
    targets = {name: open_dataset(data / name, "test") for name in SETS if name != SOURCE}
    source = open_splits(data / SOURCE)
    crossed = by_method(cross_dataset(backbone, source, targets, config, seeds, methods, Lines()))
    after, before = (crossed[name].mean["average"] or 0.0 for name in (OURS, ZERO_SHOT))
    found: dict[str, Any] = {
        f"few_shot_{SOURCE}": column(crossed[OURS], SOURCE),
        "transfer": {name: column(crossed[OURS], name) for name in (*SETS, "average")},
        "transfer_points": 100 * (after - before),
    }
    for name in SETS:
        found[f"zero_shot_{name}"] = percent(crossed[ZERO_SHOT].mean[name])
        if name != SOURCE:
            splits = open_splits(data / name)
            own = by_method(few_shot_accuracy(backbone, splits, config, seeds, (OURS,), Lines()))
            found[f"few_shot_{name}"] = column(own[OURS], "accuracy")
    return found


def base_and_new(backbone: Backbone, data: Path, seeds: list[int]) -> dict[str, Any]:
    """Base, new and HM by method, and RMAdapter's lead in HM over every other method."""
    splits = open_splits(data / SOURCE)
    methods = by_method(
        base_to_new(backbone, splits, TrainConfig(model=backbone.name), seeds, HM_METHODS, Lines())
    )
    found: dict[str, Any] = {
        name: {part: column(methods[name], part) for part in ("base", "new", "hm")} for name in HM_METHODS
    }
    ours = [seed.values["hm"] or 0.0 for seed in methods[OURS].per_seed]
    for name in HM_METHODS[:-1]:
        theirs = [seed.values["hm"] or 0.0 for seed in methods[name].per_seed]
        leads = [100 * (a - b) for a, b in zip(ours, theirs, strict=True)]
        error = statistics.stdev(leads) / math.sqrt(len(leads)) if len(leads) > 1 else None
        found[f"{OURS}_minus_{name}"] = {"mean": statistics.fmean(leads), "standard_error": error}
    return found


def the_demo(seed: int) -> dict[str, float]:
    """Accuracy of the demo's test photos and video frames, and its seconds."""
    with tempfile.TemporaryDirectory() as place:
        found = demo(Path(place) / "demo", seed=seed)
    return {
        "demo_zero_shot": percent(found.report.zero_shot_accuracy),
        "demo_photos": percent(found.report.accuracy),
        "demo_video": percent(found.video_accuracy),
        "demo_seconds": found.seconds,
    }


def latency(backbone: Backbone, rounds: int = 100) -> float:
    """Milliseconds, median: the image graph with adapters of the default rank folded in."""
    config = TrainConfig(model=backbone.name)
    model = AdaptedClip(backbone, config, torch.Generator().manual_seed(0))
    image, _ = adapted_towers(model, config.scale)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = image_graph(fold(image)).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    height, width = image.stem.image_size
    photo = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        session.run(None, {"images": photo})
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds)


def by_method(result: ProtocolResult) -> dict[str, MethodResult]:
    """The methods of a comparison by name."""
    return {method.method: method for method in result.methods}


def column(method: MethodResult, name: str) -> Summary:
    """Mean and sample deviation over the seeds, in percent."""
    sd = method.sd[name]
    return {"mean": percent(method.mean[name]), "sd": None if sd is None else 100 * sd}


def percent(share: float | None) -> float:
    """A share in percent."""
    return 100 * (share or 0.0)


if __name__ == "__main__":
    main()
