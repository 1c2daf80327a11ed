"""Evaluate rmatk-micro, print JSON: zero-shot on held-out combinations, linear probes on photographs.

    python tools/eval_micro.py                          zero-shot only
    python tools/eval_micro.py --probe DATA/trashnet    and a probe on DATA/trashnet/{train,test}/<class>/
    python tools/eval_micro.py --card ...               and fill the table of MODEL_CARD.md

Zero-shot uses one prompt, "a photo of a {}.", and scenes drawn as in pretraining, except that their (kind,
colour, fill) combination is one that pretraining never rendered.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmatk.backbones.micro import MODEL as micro
from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.scenes import prompt, render
from rmatk.scenes.draw import compose
from rmatk.scenes.split import SEEN_KINDS, Combination, held_out_combinations

import_torchvision()
from micro_probe import pooled, preprocess, probe, read_folder  # noqa: E402
from open_clip import CLIP  # noqa: E402
from PIL import Image  # noqa: E402

SIZE = 112
Scores = dict[str, float]
BEGIN, END = "<!-- results: written by tools/eval_micro.py -->", "<!-- end of results -->"


def pictures(combos: list[Combination], seed: int) -> torch.Tensor:
    """One scene for each combination given: (N, 3, H, W) float32."""
    rng = np.random.default_rng(seed)
    return preprocess([Image.fromarray(render(compose(rng, combo), SIZE)) for combo in combos])


@torch.no_grad()
def scores(model: CLIP, images: torch.Tensor, labels: torch.Tensor, prompts: list[str]) -> Scores:
    """Zero-shot accuracy: images (N, 3, H, W), labels (N,) into ``prompts``."""
    text = model.encode_text(micro.tokenize(prompts), normalize=True)
    image = torch.cat([model.encode_image(part, normalize=True) for part in images.split(128)])
    hits = (image @ text.T).topk(5).indices == labels[:, None]
    return {"top1": float(hits[:, 0].float().mean()), "top5": float(hits.any(1).float().mean())}


def zero_shot(model: CLIP, each: int, seed: int) -> dict[str, Scores]:
    """Among 60 held-out combinations, and for the kind alone among all seen kinds (in held-out
    combinations).
    """
    combos = held_out_combinations()
    sixty = combos[:60]
    images = pictures([c for c in sixty for _ in range(each)], seed)
    labels = torch.arange(60).repeat_interleave(each)
    result = {"held_out_combinations": scores(model, images, labels, [prompt(*c) for c in sixty])}
    by_kind = [[c for c in combos if c[0] == kind] for kind in SEEN_KINDS]
    chosen = [group[i % len(group)] for group in by_kind for i in range(each)]
    labels = torch.arange(len(SEEN_KINDS)).repeat_interleave(each)
    images = pictures(chosen, seed + 1)
    result["kind_alone"] = scores(model, images, labels, [prompt(kind) for kind in SEEN_KINDS])
    return result


def probes(model: CLIP, folders: list[Path], shots: int, untrained: int) -> dict[str, dict[str, float]]:
    """Linear probes of the model, and of ``untrained`` randomly initialised ones (mean) on the same shots."""
    results = {}
    for folder in folders:
        train, train_y = read_folder(folder / "train", shots)
        test, test_y = read_folder(folder / "test")
        trained, checked = probe((pooled(model, train), train_y), (pooled(model, test), test_y))
        others = []
        for seed in range(untrained):
            torch.manual_seed(seed)
            random = micro.build().eval()
            others.append(probe((pooled(random, train), train_y), (pooled(random, test), test_y))[0])
        results[folder.name] = {
            "trained": trained,
            "untrained": float(np.mean(others)),
            "validation": checked,
        }
    return results


def _row(name: str, result: Scores, target: float) -> str:
    reached = "reached" if result["top1"] >= target else "missed"
    return f"| {name} | {result['top1']:.1%} | {result['top5']:.1%} | {target:.0%}: {reached} |"


def table(report: dict[str, Any]) -> str:
    """The report as the model card's Markdown tables."""
    zero = report["zero_shot"]
    lines = [
        "| zero-shot, one prompt, held-out combinations | top-1 | top-5 | target (top-1) |",
        "|---|---|---|---|",
        _row("(kind, colour, fill) among 60", zero["held_out_combinations"], 0.9),
        _row(f"kind alone among all {len(SEEN_KINDS)} seen kinds", zero["kind_alone"], 0.8),
    ]
    if report.get("probes"):
        lines += [
            "",
            f"| linear probe, {report['shots']} shots, photographs | rmatk-micro | same network untrained |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {r['trained']:.3f} | {r['untrained']:.3f} |" for name, r in report["probes"].items()
        ]
    return "\n".join(lines)


def fill_card(text: str) -> None:
    """Put the tables between the card's two markers."""
    path = micro.card_path
    card = path.read_text(encoding="utf-8")
    head, rest = card.split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    """Evaluate, print, perhaps fill the card."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--probe", type=Path, action="append", default=[], help="folder holding train/ and test/")
    p.add_argument("--shots", type=int, default=16)
    p.add_argument("--each", type=int, default=20, help="scenes per class in the zero-shot test")
    p.add_argument("--untrained", type=int, default=3, help="random initialisations to compare with")
    p.add_argument("--seed", type=int, default=1_000_003)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--card", action="store_true", help="write the results into MODEL_CARD.md")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    model = micro.load()
    report: dict[str, Any] = {"zero_shot": zero_shot(model, args.each, args.seed), "shots": args.shots}
    if args.probe:
        report["probes"] = probes(model, args.probe, args.shots, args.untrained)
    print(json.dumps(report, indent=1))
    if args.card:
        fill_card(table(report))


if __name__ == "__main__":
    main()
