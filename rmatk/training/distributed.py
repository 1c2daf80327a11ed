"""Training in several processes: each takes its share of a batch, and the gradients are summed.

Start them with ``torchrun --nproc-per-node N --no-python rmatk train ...``; alone, every function here does
nothing. Only the adapters are trained, a few MB, so one sum over their gradients per step is all there is to
exchange: plain ``torch.distributed`` does it, and ``DistributedDataParallel`` could not, since the towers are
not run through one module's ``forward``. Every process keeps all activations and embeds all class prompts
itself; the run's folder must be one that all of them see.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


@contextmanager
def group(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; yields the device that is this process's own."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    own = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.startswith("cuda") else "gloo")
    try:
        yield own
    finally:
        dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    if dist.is_initialized():
        return dist.get_rank() == 0
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(chosen: Tensor) -> Tensor:
    """This process's part of a batch (n,): every so-many-th photo; it may be empty."""
    return chosen[dist.get_rank() :: size()] if dist.is_initialized() else chosen


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its sum over all processes; one that has none counts as zero."""
    if not dist.is_initialized():
        return
    own = list(parameters)
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in own])
    dist.all_reduce(flat)
    for parameter, part in zip(own, torch.split(flat, [p.numel() for p in own]), strict=True):
        parameter.grad = part.view_as(parameter)


def sum_values(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Every number summed over all processes, which must give the same names in the same order."""
    if not dist.is_initialized():
        return values
    summed = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return dict(zip(values, summed.tolist(), strict=True))


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if dist.is_initialized():
        dist.barrier()
