"""A transformer tower as plain arrays: read from PyTorch once, folded, and written as a graph.

Everything behind this module (fold, graph, checks) works on these frozen dataclasses and never sees a
``torch.nn.Module`` again; a new kind of backbone needs one more reader (``open_clip.py``, ``timm.py``) and
nothing else.
Matrices are in ``x @ W`` orientation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from rmatk_runtime.arrays import Array

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]
T = TypeVar("T")


@dataclass(frozen=True)
class Norm:
    """LayerNorm: ``weight`` and ``bias`` (D,), ``eps``."""

    weight: Array
    bias: Array
    eps: float


@dataclass(frozen=True)
class Linear:
    """``x @ weight + bias``: ``weight`` (in, out), ``bias`` (out,)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Rotation:
    """Rotary position embedding: x * cos + [-x2, x1] * sin, x1 and x2 the halves of a head's width.

    ``cos`` and ``sin`` (L, head width); rows of tokens without a place (the class token) are 1 and 0.
    """

    cos: Array
    sin: Array


@dataclass(frozen=True)
class Adapter:
    """The adaptation branch of one block: ``scale * (GELU(u @ down) @ up)``, u = LN1(x).

    ``down`` (D, r), ``up`` (r, D). The reconstruction branch has no place here: it cannot reach a graph.
    """

    down: Linear
    up: Linear
    scale: float


@dataclass(frozen=True)
class Block:
    """A pre-norm residual attention block, with or without an adapter beside it.

    ``qkv`` (D, 3D), ``attention_out`` (D, D), ``mlp_in`` (D, M), ``mlp_out`` (M, D); ``scale_1`` and
    ``scale_2`` (D,): LayerScale of the two residual branches, or None; ``q_norm``, ``k_norm``: LayerNorm over
    each head's width, or None; ``rotation``: of q and k, or None.
    """

    norm_1: Norm
    qkv: Linear
    attention_out: Linear
    norm_2: Norm
    mlp_in: Linear
    mlp_out: Linear
    heads: int
    activation: Activation
    scale_1: Array | None = None
    scale_2: Array | None = None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    rotation: Rotation | None = None
    adapter: Adapter | None = None


@dataclass(frozen=True)
class FoldedBlock:
    """A block with everything multiplied together that can be, exactly (see ``fold.py``).

    ``wide_in`` (D, 3D + r): q, k, v and the adapter's down-projection in one product; ``attention_out``
    (D, D); ``mlp_in`` (D, M); ``wide_out`` (M + r, D): MLP and adapter outputs in one product; ``rank`` r,
    0 where the block has no adapter.
    """

    norm_1: Norm
    wide_in: Linear
    attention_out: Linear
    norm_2: Norm
    mlp_in: Linear
    wide_out: Linear
    heads: int
    activation: Activation
    rank: int
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    rotation: Rotation | None = None

    @property
    def width(self) -> int:
        """D, the width of the tower."""
        return int(self.attention_out.weight.shape[0])


@dataclass(frozen=True)
class Convolution:
    """One convolution: ``weight`` (O, I / groups, kh, kw), ``bias`` (O,), ``stride`` (down, across), ``pads``
    (top, left, bottom, right), ``groups``; ``clip``: what it gives is cut to 0 .. ``clip``, or None."""

    weight: Array
    bias: Array
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int
    clip: float | None


@dataclass(frozen=True)
class ConvBlock:
    """Convolutions one after another; ``residual``: their input is added to what they give."""

    layers: tuple[Convolution, ...]
    residual: bool


@dataclass(frozen=True)
class ImageStem:
    """Pixels to tokens: ``patch`` (D, C, p, p) convolution kernel, stride p; ``patch_bias`` (D,) or None;
    ``class_token`` (D,) or None; ``positions`` (L, D); ``norm`` before the blocks, or None; ``image_size``
    (H, W) pixels; ``convolutions``: what comes before ``patch``, if anything (else C = 3)."""

    patch: Array
    patch_bias: Array | None
    class_token: Array | None
    positions: Array
    norm: Norm | None
    image_size: tuple[int, int]
    convolutions: tuple[ConvBlock, ...] = ()


@dataclass(frozen=True)
class TextStem:
    """Token ids to tokens: ``tokens`` (V, D) embedding table, ``positions`` (L, D), ``end_id``: the id whose
    first occurrence is read out; None takes the position of the largest id (CLIP's convention). ``causal``:
    whether a token sees only those before it; if not, the padding matters and L is fixed."""

    tokens: Array
    positions: Array
    end_id: int | None
    causal: bool = True


@dataclass(frozen=True)
class AttentionPool:
    """Pooling by one learnt query: attention over all tokens, then y + MLP(norm(y)).

    ``query`` (heads, head width), already normalised and times the whole scale: it is a constant. ``kv``
    (D, 2D); ``k_norm`` over each head's width, or None; ``out`` (D, D); ``mlp_in``, ``mlp_out``.
    """

    query: Array
    kv: Linear
    k_norm: Norm | None
    out: Linear
    norm: Norm
    mlp_in: Linear
    mlp_out: Linear
    activation: Activation


@dataclass(frozen=True)
class Head:
    """Tokens to one embedding: pool, norm, projection; the result is scaled to unit length.

    ``pool``: ``class`` token, ``mean`` of the patches, ``end`` of text, ``last`` token, or an
    :class:`AttentionPool`. ``norm_first``: the norm is applied to every token before pooling, which matters
    for the mean and for attention. ``projection`` (D, E) and ``projection_bias`` (E,) or None.
    """

    pool: Literal["class", "mean", "end", "last"] | AttentionPool
    norm: Norm
    norm_first: bool
    projection: Array | None
    projection_bias: Array | None = None


Stem = TypeVar("Stem", ImageStem, TextStem)


@dataclass(frozen=True)
class Tower(Generic[Stem]):
    """An image or text tower as read: stem, blocks (adapters beside them), head."""

    stem: Stem
    blocks: tuple[Block, ...]
    head: Head


@dataclass(frozen=True)
class FoldedTower(Generic[Stem]):
    """A tower ready to be written: the same function as the :class:`Tower` it was folded from."""

    stem: Stem
    blocks: tuple[FoldedBlock, ...]
    head: Head


def map_arrays(value: T, change: Callable[[Array], Array]) -> T:
    """A copy of a dataclass tree with ``change`` applied to every array in it."""

    def visit(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return change(item)
        if isinstance(item, tuple):
            return tuple(visit(part) for part in item)
        if is_dataclass(item) and not isinstance(item, type):
            return replace(item, **{field.name: visit(getattr(item, field.name)) for field in fields(item)})
        return item

    result: T = visit(value)
    return result


def walk(value: Any) -> Iterator[Any]:
    """Every dataclass and array in a dataclass tree, the root first."""
    if isinstance(value, tuple):
        for part in value:
            yield from walk(part)
    elif isinstance(value, np.ndarray):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in fields(value):
            yield from walk(getattr(value, field.name))


def count_parameters(value: Any) -> int:
    """How many numbers a dataclass tree holds."""
    return sum(part.size for part in walk(value) if isinstance(part, np.ndarray))
