"""Pretrain rmatk-micro on rendered scenes with open_clip's contrastive loss.

    python tools/pretrain_micro.py --out build/micro --minutes 60          a run of about an hour
    python tools/pretrain_micro.py --out build/micro --minutes 60          the same command resumes it
    python tools/pretrain_micro.py ... --from-package                      goes on from the package's weights
    python tools/pretrain_micro.py --out build/micro --export              writes the weights

Seeded. With ``--steps`` the run is a function of its arguments; ``--minutes`` ties the learning rate's decay
to the clock instead (time spent in earlier, resumed parts counts). Checkpoints are safetensors and JSON, and
written atomically.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from micro_pool import SIDE, ScenePool
from muon import Muon
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from rmatk.backbones.micro import MODEL as micro
from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.scenes import caption

import_torchvision()
from open_clip import CLIP  # noqa: E402
from open_clip.loss import ClipLoss  # noqa: E402

IMAGE_SIDE = micro.config()["vision_cfg"]["image_size"]
CHECKPOINT, STATE = "checkpoint.safetensors", "state.json"


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the log")
    p.add_argument("--minutes", type=float, help="length of the schedule by the clock")
    p.add_argument("--steps", type=int, help="length of the schedule in steps")
    p.add_argument("--batch", type=int, default=104)
    p.add_argument("--lr", type=float, default=1e-3, help="Muon's and AdamW's")
    p.add_argument("--warmup", type=int, default=200, help="steps")
    p.add_argument(
        "--decay", type=float, default=0.35, help="last part of the schedule, in which the rate falls"
    )
    p.add_argument("--weight-decay", type=float, default=0.1)
    p.add_argument("--segments", type=int, default=24, help="pool size in segments of 1024 scenes")
    p.add_argument("--renew-every", type=int, default=40, help="steps between fresh segments")
    p.add_argument("--workers", type=int, default=1, help="rendering processes")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--log-every", type=int, default=50)
    p.add_argument("--checkpoint-seconds", type=float, default=150)
    p.add_argument("--bfloat16", action="store_true", help="autocast, for processors with bfloat16 units")
    p.add_argument("--from-package", action="store_true", help="start from the package's weights")
    p.add_argument(
        "--export", action="store_true", help="write the checkpoint's weights into the package and stop"
    )
    args = p.parse_args()
    if not args.export and (args.minutes is None) == (args.steps is None):
        p.error("give one of --minutes and --steps")
    return args


Optimisers = tuple[Muon, torch.optim.AdamW]


def optimisers(model: CLIP, lr: float, weight_decay: float) -> Optimisers:
    """Muon for the blocks' matrices; AdamW, without decay, for embeddings, projections and vectors.

    From one checkpoint, over 150 steps each, the loss fell to 0.69 with Muon where AdamW for all gave 0.83.
    """
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ".resblocks." in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or ".resblocks." not in n]
    return (
        Muon(matrices, lr, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    )


def crops(images: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """Random resized crops of 80 to 100 % of the area: (N, SIDE, SIDE, 3) uint8 -> (N, 3, H, W) float32,
    normalised.
    """
    n = len(images)
    cfg = micro.config()["preprocess_cfg"]
    scale = np.sqrt(rng.uniform(0.8, 1.0, (n, 1))) * np.exp(rng.uniform(-0.06, 0.06, (n, 2)))
    scale = np.minimum(scale, 1.0)
    shift = rng.uniform(-1, 1, (n, 2)) * (1 - scale)
    theta = np.zeros((n, 2, 3), dtype=np.float32)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 0], scale[:, 1], shift
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    grid = F.affine_grid(torch.from_numpy(theta), [n, 3, IMAGE_SIDE, IMAGE_SIDE], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    mean, std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (x - mean) / std


@contextmanager
def context_cut(model: CLIP, length: int) -> Iterator[None]:
    """Run the text tower on the first ``length`` positions: exact, it is causal and reads out at the end
    token.
    """
    position, mask = model.positional_embedding, model.attn_mask
    del model._parameters["positional_embedding"]
    model.positional_embedding = position[:length]
    model.attn_mask = mask[:length, :length]
    try:
        yield
    finally:
        del model.positional_embedding
        model.positional_embedding = position
        model.attn_mask = mask


def save(out: Path, model: CLIP, opts: Optimisers, state: dict[str, float]) -> None:
    """Write model, optimisers' moments and counters."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for number, opt in enumerate(opts):
        for i, moments in opt.state_dict()["state"].items():
            tensors |= {f"opt.{number}.{i}.{k}": v.contiguous() for k, v in moments.items()}
    temporary = out / (CHECKPOINT + ".part")
    save_file(tensors, temporary, metadata={"state": json.dumps(state)})
    temporary.replace(out / CHECKPOINT)
    (out / STATE).write_text(json.dumps(state, indent=1))


def restore(out: Path, model: CLIP, opts: Optimisers) -> dict[str, float]:
    """Read what :func:`save` wrote; counters at zero where there is nothing."""
    if not (out / CHECKPOINT).exists():
        return {"step": 0, "seconds": 0.0}
    tensors = load_file(out / CHECKPOINT)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for number, opt in enumerate(opts):
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"opt.{number}."):
                _, _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        opt.load_state_dict({"state": moments, "param_groups": opt.state_dict()["param_groups"]})
    state: dict[str, float] = json.loads((out / STATE).read_text())
    return state


def export(out: Path) -> Path:
    """Write the checkpoint's model as float16 into the package."""
    tensors = load_file(out / CHECKPOINT)
    half = {
        k[6:]: v.half().contiguous()
        for k, v in tensors.items()
        if k.startswith("model.") and k != "model.attn_mask"
    }
    temporary = micro.weights_path.with_suffix(".part")
    save_file(half, temporary, metadata={"format": "pt", "model": micro.name})
    temporary.chmod(0o644)
    temporary.replace(micro.weights_path)
    return micro.weights_path


def train(args: argparse.Namespace) -> None:
    """The loop."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = (micro.load() if args.from_package else micro.build()).float().requires_grad_(True).train()
    opts = optimisers(model, args.lr, args.weight_decay)
    state = restore(args.out, model, opts)
    step, spent, began = int(state["step"]), state["seconds"], time.monotonic()
    pool = ScenePool(args.seed, args.segments, args.workers, first=step // args.renew_every)
    print(
        f"pool of {args.segments} segments in {time.monotonic() - began:.0f} s; starting at step {step}",
        flush=True,
    )
    began = saved = time.monotonic()
    loss_of, losses = ClipLoss(), []
    while True:
        seconds = spent + time.monotonic() - began
        progress = step / args.steps if args.steps else seconds / (60 * args.minutes)
        if progress >= 1 or time.monotonic() - saved > args.checkpoint_seconds:
            save(args.out, model, opts, {"step": step, "seconds": seconds})
            saved = time.monotonic()
        if progress >= 1:
            break
        lr = args.lr * min(1.0, (step + 1) / args.warmup, (1 - progress) / args.decay)
        for opt in opts:
            opt.param_groups[0]["lr"] = lr
        losses.append(one_step(model, opts, pool, loss_of, np.random.default_rng([args.seed, 1, step]), args))
        step += 1
        if step % args.renew_every == 0:
            pool.renew(step // args.renew_every - 1)
        if step % args.log_every == 0:
            loss, scale = np.mean(losses[-args.log_every :]), model.logit_scale.exp().item()
            print(
                f"step {step} loss {loss:.3f} lr {lr:.2e} scale {scale:.1f} {seconds / 60:.1f} min",
                flush=True,
            )
    pool.close()


def one_step(
    model: CLIP,
    opts: Optimisers,
    pool: ScenePool,
    loss_of: ClipLoss,
    rng: np.random.Generator,
    args: argparse.Namespace,
) -> float:
    """One batch: fresh crops, fresh captions, contrastive loss, one update. Returns the loss."""
    pictures, scenes = pool.sample(rng, args.batch)
    ids = micro.tokenize([caption(scene, rng) for scene in scenes])
    ids = ids[:, : int((ids != 0).sum(1).max())]
    images = crops(pictures, rng)
    # PyTorch's fused CPU attention has a slow backward in bfloat16: plain products are faster on these short
    # sequences
    with sdpa_kernel(SDPBackend.MATH), context_cut(model, ids.shape[1]):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bfloat16):
            image, text = model.encode_image(images, normalize=False), model.encode_text(ids, normalize=False)
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        loss = loss_of(image, text, model.logit_scale.exp())
        model.zero_grad(set_to_none=True)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for opt in opts:
        opt.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return float(loss.detach())


def main() -> None:
    """Train, or export."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.export:
        print(export(args.out))
    else:
        train(args)


if __name__ == "__main__":
    assert SIDE >= IMAGE_SIDE
    main()
