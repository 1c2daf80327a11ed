"""The checkpoint of an interrupted training run: one file beside the target, replaced atomically.

``rmatk train -o RUN`` works in ``.RUN.partial``, which holds ``metrics.jsonl`` as it grows and
``checkpoint.safetensors``: adapters, the optimiser's state and, as JSON in the same file's header, the step
and what the run was started with. The order of photos follows from the seed and the step. So the same
command goes on where the checkpoint was written, to the same weights, bit for bit on one machine; another
command is refused.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from rmatk.config import TrainConfig
from rmatk.method.adapter import adapter_params
from rmatk.method.model import AdaptedClip
from rmatk.training.precision import resolved
from rmatk_runtime.errors import RunError, StorageError, naming_storage_errors
from rmatk_runtime.files import write_atomic

CHECKPOINT = "checkpoint.safetensors"
FRESH = "give the same arguments to continue, or --fresh to start over"
_HEADER = "rmatk"
_OPTIMIZER = "optimizer"


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run was started with: it can be resumed only with the same.

    ``photos``: hex SHA-256 over the names, sizes and classes of its photos. ``processes``: how many train
    together.
    """

    config: TrainConfig
    backbone_digest: str
    photos: str
    processes: int = 1


class CheckpointHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``step``: how many steps are done. ``scaler``: the state of fp16's loss scale, else empty."""

    step: int
    identity: Identity
    scaler: dict[str, float]


class TrainState:
    """What changes from step to step: adapters, optimiser, loss scale, and the number of steps done."""

    def __init__(self, model: AdaptedClip, config: TrainConfig) -> None:
        device = model.backbone.device
        self.parameters = adapter_params(model)
        self.optimizer = _optimizer(list(self.parameters.values()), config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=resolved(config.precision, device) == "fp16")
        self.step = 0

    def tensors(self) -> dict[str, Tensor]:
        """Adapters by their names, the optimiser's state as ``optimizer.<parameter's number>.<name>``."""
        own = {name: parameter.detach() for name, parameter in self.parameters.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            own |= {f"{_OPTIMIZER}.{number}.{name}": value for name, value in values.items()}
        return own

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave.

        Raises:
            KeyError: an adapter's parameter is missing.
        """
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[name])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"{_OPTIMIZER}."):
                _, number, kind = name.split(".")
                state.setdefault(int(number), {})[kind] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_checkpoint(folder: Path, state: TrainState, identity: Identity) -> None:
    """Replace the checkpoint in ``folder``, as a whole or not at all.

    Raises:
        StorageError: disk full, no permission.
    """
    header = CheckpointHeader(step=state.step, identity=identity, scaler=state.scaler.state_dict())
    metadata = {_HEADER: msgspec.json.encode(header).decode()}
    tensors = {name: value.cpu().contiguous() for name, value in state.tensors().items()}
    write_atomic(folder / CHECKPOINT, safetensors.save(tensors, metadata))


def load_checkpoint(folder: Path, state: TrainState, identity: Identity) -> None:
    """Bring ``state`` to where the checkpoint in ``folder`` was written; without one it stays at step 0.

    Raises:
        RunError: it was written by a run with other arguments, or cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return
    try:
        with safe_open(path, framework="pt") as file:
            header = msgspec.json.decode((file.metadata() or {}).get(_HEADER, ""), type=CheckpointHeader)
            _check_same(path, header.identity, identity)
            state.load({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    except (SafetensorError, msgspec.MsgspecError, KeyError) as error:
        raise RunError(f"{path} cannot be resumed from: {error}", "start over with --fresh") from error
    if header.scaler:
        state.scaler.load_state_dict(header.scaler)
    state.step = header.step


@contextmanager
def working_folder(out: Path, *, fresh: bool) -> Iterator[Path]:
    """``.NAME.partial`` beside ``out``, this process's alone; it stays only with a checkpoint in it.

    Args:
        fresh: clear it first.

    Raises:
        StorageError: another process is training into ``out``; disk full, no permission.
    """
    folder = partial_folder(out)
    with naming_storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however that ends
        except BlockingIOError:
            raise StorageError(
                f"another process is training into {out}", "wait for it, or choose another place with -o"
            ) from None
        if fresh:
            forget_checkpoint(folder)
        try:
            yield folder
        finally:
            if not (folder / CHECKPOINT).exists():
                shutil.rmtree(folder, ignore_errors=True)


def forget_checkpoint(folder: Path) -> None:
    """Remove the checkpoint, if there is one: the run is done, or cannot go on."""
    with naming_storage_errors(folder):
        (folder / CHECKPOINT).unlink(missing_ok=True)


def partial_folder(out: Path) -> Path:
    """Where a run that is to become ``out`` is being made."""
    return out.with_name(f".{out.name}.partial")


def _check_same(path: Path, found: Identity, wanted: Identity) -> None:
    """Refuse to go on with other settings, naming each that differs."""
    before, now = msgspec.to_builtins(found.config), msgspec.to_builtins(wanted.config)
    changed = [
        f"--{name.replace('_', '-')} was {before[name]}, now {now[name]}"
        for name in now
        if before[name] != now[name]
    ]
    if found.backbone_digest != wanted.backbone_digest:
        changed.append("the backbone's weights are others")
    if found.photos != wanted.photos:
        changed.append("the photos are others")
    if found.processes != wanted.processes:
        changed.append(f"{found.processes} processes trained together, now {wanted.processes}")
    if changed:
        raise RunError(f"{path} was left by a run with other arguments: {'; '.join(changed)}", FRESH)


def _optimizer(parameters: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
