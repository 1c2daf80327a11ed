"""Writes the values of ``metrics.jsonl`` for TensorBoard during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmatk.training.fit import Step
from rmatk.training.train import Listener
from rmatk_runtime.errors import MissingExtraError


class TensorBoard(Listener):
    """Writes every step's figures into ``folder`` and passes on all it hears to another listener."""

    def __init__(self, folder: Path, then: Listener) -> None:
        """Raises:
        MissingExtraError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "tensorboard") from error
        self.writer = SummaryWriter(str(folder))
        self.then = then

    def noted(self, notes: Sequence[str]) -> None:
        """See :meth:`Listener.noted`."""
        self.then.noted(notes)

    def started(self, photos: int, steps: int) -> None:
        """See :meth:`Listener.started`."""
        self.then.started(photos, steps)

    def read(self, photos: int) -> None:
        """See :meth:`Listener.read`."""
        self.then.read(photos)

    def stepped(self, step: Step) -> None:
        """See :meth:`Listener.stepped`."""
        for name, value in {"lr": step.lr, "accuracy": step.accuracy, **step.terms}.items():
            self.writer.add_scalar(name, value, step.step)
        self.writer.flush()
        self.then.stepped(step)
