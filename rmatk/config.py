"""The settings of ``rmatk train``, validated together and saved with the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec

from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.errors import ConfigError
from rmatk_runtime.settings import above, at_least, one_of, require

_Config = TypeVar("_Config", bound=msgspec.Struct)

LOSS_WEIGHTS = ("image_rec_weight", "text_rec_weight", "image_con_weight", "text_con_weight")
"""l1 to l4 of METHOD.md, by which names run.json keeps them."""


def configured(kind: type[_Config], settings: Mapping[str, Any], *, strict: bool = True) -> _Config:
    """A config from settings by field name; ``strict=False`` converts text such as ``"0.5"`` to numbers.

    Raises:
        ConfigError: a value that cannot be used.
        msgspec.ValidationError: a wrong type, or a name that is no field.
    """
    encoded = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    given = {encoded.get(name, name): value for name, value in settings.items()}
    try:
        return msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting of a training run.

    Raises:
        ConfigError: on construction, naming every field whose value cannot be used.
    """

    model: str = "auto"
    """An open_clip model name, ``rmatk-small``, or ``auto``: see :mod:`rmatk.backbones.choice`."""
    pretrained: str | None = None
    """open_clip tag or local file of weights; None for an embedded model, which carries its own."""
    shots: int = 16
    """Training photos per class."""
    seed: int = 1
    """The one source of every random draw: shots, initial weights, order of batches."""
    epochs: int = 20
    batch: int | None = None
    """Photos per step; None: 16, or an eighth of the classes where that is more."""
    lr: float = 3e-3
    """Peak learning rate; falls to zero along a cosine."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 5e-4
    momentum: float = 0.9
    """Of SGD only."""
    rank: int = 32
    """Bottleneck r of every adapter (MMA)."""
    scale: float = 1.0
    """s, which multiplies the adaptation branch (MMA: 0.001 with the gradient scaled by 1 / s)."""
    image_blocks: int | None = None
    """How many of the image tower's last blocks are adapted; None: two thirds, rounded (MMA: 8 of 12)."""
    text_blocks: int | None = None
    """The same for the text tower."""
    image_rec_weight: float = msgspec.field(default=1.0, name="l1")
    """Weight of the image tower's reconstruction loss."""
    text_rec_weight: float = msgspec.field(default=1.0, name="l2")
    """Weight of the text tower's reconstruction loss."""
    image_con_weight: float = msgspec.field(default=0.2, name="l3")
    """Weight of the image features' consistency loss."""
    text_con_weight: float = msgspec.field(default=0.2, name="l4")
    """Weight of the class embeddings' consistency loss."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Prompts; a class's embedding is the mean over them."""
    max_bad: float = 0.0
    """Share of the drawn photos that may be unreadable: they are noted and left out."""
    stretch: Literal["auto"] | tuple[int, int] | None = None
    """Of 16-bit greyscale: ``auto``, levels (low, high), or None: all 65,536."""
    augment: bool = False
    """Train on random crops and mirror images, which cannot be kept: each step runs the whole image tower."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of matrix products in training: see :func:`rmatk.training.precision.resolved`."""

    def __post_init__(self) -> None:
        require(
            *at_least(1, shots=self.shots, epochs=self.epochs, batch=self.batch, rank=self.rank),
            *at_least(1, image_blocks=self.image_blocks, text_blocks=self.text_blocks),
            *at_least(0, seed=self.seed, weight_decay=self.weight_decay, momentum=self.momentum),
            *at_least(0, **{name: getattr(self, name) for name in LOSS_WEIGHTS}),
            *above(0, lr=self.lr, scale=self.scale),
            *(
                ("templates", f"must contain {{}} once, for the class name: {template!r} does not")
                for template in self.templates
                if template.count("{}") != 1
            ),
            *([] if self.templates else [("templates", "must be given at least once")]),
            *(
                []
                if 0 <= self.max_bad < 1
                else [("max_bad", f"must be at least 0 and below 1, not {self.max_bad}")]
            ),
        )


class Execution(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a training run is carried out; none of it is meant to change what comes out.

    Raises:
        ConfigError: on construction, naming the field whose value cannot be used.
    """

    cache: Literal["auto", "memory", "disk", "off"] = "auto"
    """Where the frozen blocks' output is kept.

    auto: in memory up to :data:`rmatk.training.cache.MEMORY_BUDGET`."""
    checkpoint_every: float = 15.0
    """Seconds between checkpoints, at least; 0: one after every step."""
    fresh: bool = False
    """Start over even if an interrupted run could be resumed."""
    compile: bool = False
    """Run the adapted blocks through ``torch.compile``; changes results in the last digits."""

    def __post_init__(self) -> None:
        require(*at_least(0, checkpoint_every=self.checkpoint_every))


class ExportConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting of an export.

    Raises:
        ConfigError: on construction, naming every field whose value cannot be used.
    """

    precisions: tuple[Precision, ...] = ("fp32",)
    """Of the image encoder; the first is the default on a device."""
    pixels: bool = False
    """Also write graphs that take uint8 pixels, with normalisation inside."""
    golden: int | Literal["rendered"] | None = 32
    """How many training photos make the golden set; ``rendered``: rendered pictures instead; None: no
    pictures in the bundle."""

    def __post_init__(self) -> None:
        require(
            *(
                problem
                for name in self.precisions
                for problem in one_of(get_args(Precision), precisions=name)
            ),
            *([] if self.precisions else [("precisions", "must name at least one")]),
            *(at_least(1, golden=self.golden) if isinstance(self.golden, int) else []),
            *one_of(("rendered", None), **({} if isinstance(self.golden, int) else {"golden": self.golden})),
        )


def photos_per_step(config: TrainConfig, classes: int) -> int:
    """The batch size: every step runs the prompts of all classes, so that many classes call for few steps.

    With an eighth of the classes (125 of 1,000; MMA takes 128 on ImageNet) the cost of an epoch grows with
    the number of classes, not with its square.
    """
    return config.batch or max(16, classes // 8)


def default_blocks(depth: int) -> int:
    """How many of a tower's blocks are adapted by default: two thirds, rounded (MMA: the last 8 of 12)."""
    return max(1, round(depth * 2 / 3))
