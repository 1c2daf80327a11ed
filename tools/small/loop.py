"""One training loop for both towers: Muon and AdamW, warm-up and linear decay, checkpoints that resume.

Step n draws from a generator of its own, so a resumed run gives what an uninterrupted one gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from muon import Muon
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """``steps`` in all; ``lr`` of Muon's and AdamW's; ``warmup`` steps; decay over the last share."""

    steps: int
    lr: float
    warmup: int = 50
    decay: float = 0.6
    weight_decay: float = 0.05
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.lr * min(1.0, (step + 1) / self.warmup, (1 - step / self.steps) / self.decay)


def run(
    path: Path, module: nn.Module, loss_of: Callable[[np.random.Generator], Tensor], plan: Schedule
) -> None:
    """Train what requires gradients in ``module``; ``path`` is the checkpoint, from which a run goes on."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    blocks = [p for name, p in trained.items() if p.ndim == 2 and "blocks." in name]
    rest = [p for name, p in trained.items() if p.ndim != 2 or "blocks." not in name]
    optimisers = [
        Muon(blocks, plan.lr, weight_decay=plan.weight_decay),
        torch.optim.AdamW(rest, lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]
    step, seconds = restore(path, trained, optimisers)
    began = saved = time.monotonic()
    recent: list[float] = []
    while step < plan.steps:
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = plan.rate(step)
        loss = loss_of(np.random.default_rng([plan.seed, step]))
        module.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        recent.append(float(loss.detach()))
        step += 1
        if step % 50 == 0:
            spent = seconds + time.monotonic() - began
            print(
                f"{path.stem} step {step} loss {np.mean(recent[-50:]):.4f} {spent / 60:.1f} min", flush=True
            )
        if step == plan.steps or time.monotonic() - saved > plan.checkpoint_seconds:
            save(path, trained, optimisers, step, seconds + time.monotonic() - began)
            saved = time.monotonic()


def save(
    path: Path,
    trained: dict[str, nn.Parameter],
    optimisers: list[torch.optim.Optimizer],
    step: int,
    seconds: float,
) -> None:
    """Write parameters, moments and counters, whole or not at all."""
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in trained.items()}
    for number, optimiser in enumerate(optimisers):
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"opt.{number}.{index}.{k}": v.contiguous() for k, v in moments.items()}
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, metadata={"state": json.dumps({"step": step, "seconds": seconds})})
    temporary.replace(path)


def restore(
    path: Path, trained: dict[str, nn.Parameter], optimisers: list[torch.optim.Optimizer]
) -> tuple[int, float]:
    """Read what :func:`save` wrote into parameters and moments; (0, 0.0) where there is nothing."""
    if not path.exists():
        return 0, 0.0
    tensors = load_file(path)
    moments: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimisers]
    for key, value in tensors.items():
        kind, name = key.split(".", 1)
        if kind == "model":
            trained[name].data.copy_(value)
        else:
            number, index, part = name.split(".")
            moments[int(number)].setdefault(int(index), {})[part] = value
    for optimiser, each in zip(optimisers, moments, strict=True):
        optimiser.load_state_dict({"state": each, "param_groups": optimiser.state_dict()["param_groups"]})
    return counters(path)


def counters(path: Path) -> tuple[int, float]:
    """Steps and seconds of a checkpoint."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
    return int(state["step"]), float(state["seconds"])
