"""What keeping the frozen activations and cutting the prompts is worth: one training step, naive and fast.

    python benchmarks/train_step.py --model ViT-B-16-quickgelu --classes 50 --batch 16 --json

The naive step is what one writes first: every photo through all image blocks, every prompt with all 77
tokens through all text blocks, CLIP's own image features beside them; gradients only where adapters are, and
CLIP's own class embeddings computed once. The fast step is that of ``rmatk train``. Both run the same blocks,
the same adapters, loss and optimiser, take turns in one process, and have to give the same loss. Weights and
pictures are random: they do not matter for time. Peak memory is that of a process of its own for each.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmatk.backbones.backbone import Backbone, wrap
from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.config import TrainConfig
from rmatk.method.adapter import AdaptedTower
from rmatk.method.losses import LossTerms, classification, consistency, reconstruction_error
from rmatk.method.model import AdaptedClip, mean_of_templates
from rmatk.training.cache import ImageCache, TextCache, cache_texts
from rmatk.training.checkpoint import TrainState
from rmatk.training.fit import losses
from rmatk_runtime.pictures.preprocess import PreprocessSpec

PHOTOS = 64
TEMPLATE = "a photo of a {}."


def random_backbone(name: str) -> Backbone:
    """An open_clip model without trained weights."""
    import_torchvision()
    import open_clip

    torch.manual_seed(0)
    model: Any = open_clip.create_model(name)
    spec = PreprocessSpec.from_open_clip(model.visual.preprocess_cfg)
    return wrap(model, open_clip.get_tokenizer(name), None, spec, name=name, pretrained=None)


def class_names(count: int) -> list[str]:
    """Real names of real lengths: those of ImageNet."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return [IMAGENET_CLASSNAMES[i % 1000] for i in range(count)]


class Cost(NamedTuple):
    """Seconds of wall clock and of processor time (apart where the machine has other work), and the loss."""

    wall: float
    cpu: float
    loss: float


class Naive:
    """Nothing kept but the pixels, the tokens and CLIP's own class embeddings."""

    def __init__(self, model: AdaptedClip, pixels: Tensor, labels: Tensor, names: list[str]) -> None:
        self.model, self.pixels, self.labels = model, pixels, labels
        self.tokens = model.tokens(names, (TEMPLATE,))
        self.frozen_text = model.class_embeddings(names, (TEMPLATE,), frozen=True)

    def __call__(self, chosen: Tensor, config: TrainConfig) -> LossTerms:
        """The loss terms of the photos ``chosen`` (n,)."""
        model, pixels, labels = self.model, self.pixels[chosen], self.labels[chosen]
        frozen_image = model.encode_images(pixels, frozen=True)
        x, _ = model.image.tower.embed(pixels)
        x, image_rec = through_all_blocks(model.image, x, None)
        image = model.image.tower.head(x, None)
        text: Any = model.text.tower
        lengths = text.lengths(self.tokens)
        x = text.token_embedding(self.tokens) + text.positional_embedding
        x, text_rec = through_all_blocks(model.text, x, lengths)
        classes = mean_of_templates(text.head(x, lengths), 1)
        return LossTerms(
            ce=classification(model.logit_scale * image @ classes.T, labels),
            image_rec=config.image_rec_weight * image_rec,
            text_rec=config.text_rec_weight * text_rec,
            image_con=config.image_con_weight * consistency(image, frozen_image),
            text_con=config.text_con_weight * consistency(classes, self.frozen_text),
        )


def through_all_blocks(adapted: AdaptedTower, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens (N, L, D) through every block, with adapters where there are any; the reconstruction error."""
    mask = adapted.tower.mask(x.shape[1])
    error = torch.zeros(())
    for index, module in enumerate(adapted.tower.blocks):
        block: Any = module
        u = block.norm(x)
        x = block(x, u, mask)
        if str(index) in adapted.blocks:
            adapter: Any = adapted.blocks[str(index)]
            x = x + adapted.scale * adapter.adapt(u)
            target = u.detach()
            error = error + reconstruction_error(adapter.reconstruct(target), target, lengths)
    return x, error


class Fast:
    """The step of ``rmatk train``: frozen activations of both towers kept."""

    def __init__(self, model: AdaptedClip, pixels: Tensor, labels: Tensor, names: list[str]) -> None:
        self.model = model
        lower = torch.cat([model.image.lower(part)[0] for part in torch.split(pixels, 32)])
        frozen = torch.cat([model.image.frozen(part, None) for part in torch.split(lower, 32)])
        self.images = ImageCache(lower, frozen, labels)
        self.text: TextCache = cache_texts(model, names, (TEMPLATE,))

    def __call__(self, chosen: Tensor, config: TrainConfig) -> LossTerms:
        """The loss terms of the photos ``chosen`` (n,)."""
        return losses(self.model, self.images, self.text, chosen, config)[0]


WAYS: dict[str, type[Naive] | type[Fast]] = {"naive": Naive, "fast": Fast}


def prepare(way: str, backbone: Backbone, args: argparse.Namespace) -> Callable[[int], Cost]:
    """A function that takes the step of a number and says what it cost."""
    config = TrainConfig(batch=args.batch, precision="fp32")
    model = AdaptedClip(backbone, config, torch.Generator().manual_seed(1))
    spec, draw = backbone.preprocess, torch.Generator().manual_seed(2)
    pixels = torch.randn(PHOTOS, 3, spec.height, spec.width, generator=draw)
    labels = torch.randint(args.classes, (PHOTOS,), generator=draw)
    terms_of = WAYS[way](model, pixels, labels, class_names(args.classes))
    state = TrainState(model, config)

    def step(number: int) -> Cost:
        chosen = torch.arange(number * args.batch, (number + 1) * args.batch) % PHOTOS
        began, busy = time.perf_counter(), time.process_time()
        state.optimizer.zero_grad()
        total = terms_of(chosen, config).total
        torch.autograd.backward(total)
        state.optimizer.step()
        return Cost(time.perf_counter() - began, time.process_time() - busy, total.item())

    return step


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Medians of both ways, taken in turns after a step each to warm up; peak memory in MB."""
    peaks = {way: peak_memory(way) for way in WAYS}  # first: a child's peak begins with its parent's size
    backbone = random_backbone(args.model)
    steps = {way: prepare(way, backbone, args) for way in WAYS}
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for number in range(args.steps + 1):
        for way, step in steps.items():
            costs[way].append(step(number))
            print(f"step {number} {way}: {costs[way][-1]}", file=sys.stderr)
        if abs(costs["naive"][-1].loss / costs["fast"][-1].loss - 1) > 1e-4:
            raise SystemExit(f"the losses differ at step {number + 1}")
    wall, busy = (
        {way: statistics.median(getattr(cost, kind) for cost in own[1:]) for way, own in costs.items()}
        for kind in ("wall", "cpu")
    )
    return {
        **{name: getattr(args, name) for name in ("model", "classes", "batch", "steps")},
        "threads": torch.get_num_threads(),
        "naive_seconds": round(wall["naive"], 4),
        "fast_seconds": round(wall["fast"], 4),
        "ratio": round(wall["naive"] / wall["fast"], 3),
        "naive_cpu_seconds": round(busy["naive"], 4),
        "fast_cpu_seconds": round(busy["fast"], 4),
        "cpu_ratio": round(busy["naive"] / busy["fast"], 3),
        "naive_peak_mb": peaks["naive"],
        "fast_peak_mb": peaks["fast"],
        "photos_kept": PHOTOS,
    }


def peak_memory(way: str) -> int:
    """Peak resident memory in MB of a fresh process that takes a step in one way."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each way")
    parser.add_argument("--threads", type=int, default=None, help="of torch; by default its own choice")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on standard output")
    parser.add_argument("--memory-of", choices=list(WAYS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.memory_of:
        step = prepare(args.memory_of, random_backbone(args.model), args)
        step(0)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    result = measure(args)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>14} {value}")


if __name__ == "__main__":
    main()
