"""The frozen part of the image tower, run once per photo for all methods and seeds of a comparison.

Methods that are compared see the same photos again and again: each seed trains on a draw of them, each
method is measured on all of the test photos. What the blocks below the first adapted one give never
differs, so it is kept, up to a budget of memory; past it, photos are read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rmatk.backbones.backbone import Backbone
from rmatk.config import TrainConfig
from rmatk.data.photos import Dataset, image_batches
from rmatk.method.model import AdaptedClip
from rmatk.training.cache import ImageCache
from rmatk_runtime.progress import OnProgress, no_progress

_BATCH = 32
_BUDGET = 4 << 30


class FrozenFeatures:
    """What all methods read of a photo: the first adapted block's input (L, D), CLIP's features (De,).

    ``clip`` is the backbone with untrained adapters, which is CLIP itself. Rows are kept until they take
    ``budget`` bytes. ``on_progress`` reports the photos read of each data set.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: TrainConfig,
        *,
        budget: int = _BUDGET,
        on_progress: OnProgress = no_progress,
    ) -> None:
        """Raises:
        BackboneError: more blocks asked for than a tower has.
        """
        self.clip = AdaptedClip(backbone, config, torch.Generator().manual_seed(0))
        self._left = budget
        self._on_progress = on_progress
        self._rows: dict[Path, tuple[Tensor, Tensor]] = {}

    def all(self, dataset: Dataset) -> ImageCache:
        """Every photo of a data set at once: ``x`` (N, L, D), ``frozen`` (N, De), ``labels`` (N,) int64.

        Raises:
            DataError: naming every photo that cannot be read.
        """
        parts = list(self.batches(dataset))
        return ImageCache(
            torch.cat([part.x for part in parts]),
            torch.cat([part.frozen for part in parts]),
            torch.cat([part.labels for part in parts]),
        )

    def batches(self, dataset: Dataset) -> Iterator[ImageCache]:
        """The same in batches, so that no more than one needs to be in memory.

        Raises:
            DataError: naming every photo of the data set that cannot be read.
        """
        files, labels = dataset.flat()
        unread = self._read([file for file in files if file not in self._rows])
        device = self.clip.backbone.device
        for start in range(0, len(files), _BATCH):
            rows = [self._rows.get(file) or next(unread) for file in files[start : start + _BATCH]]
            yield ImageCache(
                torch.stack([x for x, _ in rows]),
                torch.stack([frozen for _, frozen in rows]),
                torch.tensor(labels[start : start + _BATCH], device=device),
            )

    @torch.no_grad()
    def _read(self, files: list[Path]) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of photos that are not kept, in order; those that fit the budget are kept from now on."""
        place, done = iter(files), 0
        for images in image_batches(files, self.clip.backbone.preprocess, _BATCH):
            x, lengths = self.clip.image.lower(torch.from_numpy(images).to(self.clip.backbone.device))
            frozen = self.clip.image.frozen(x, lengths)
            done += len(images)
            self._on_progress("photos", done, len(files))
            size = (x.nbytes + frozen.nbytes) // len(images)
            for row in zip(x, frozen, strict=True):
                file = next(place)
                if self._left >= size:
                    self._left -= size
                    self._rows[file] = row
                yield row
