"""Writes the values of ``metrics.jsonl`` for TensorBoard during training."""

from __future__ import annotations

from pathlib import Path

from rmatk.training.fit import OnStep, Step
from rmatk_runtime.errors import MissingExtraError


def tensorboard(folder: Path) -> OnStep:
    """A callback that writes every step's figures into ``folder``.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard") from error
    writer = SummaryWriter(str(folder))

    def write(step: Step) -> None:
        for name, value in {"lr": step.lr, "accuracy": step.accuracy, **step.terms}.items():
            writer.add_scalar(name, value, step.step)
        writer.flush()

    return write
