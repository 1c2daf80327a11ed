"""The bundle's manifest: contents, meaning, provenance and tolerances.

It is written last and read first. Unknown fields, wrong types and missing files are refused with their place
(``$.graphs[0].file``), so that a bundle of another version never half works; ``rmatk_runtime.formats`` says
what holds for newer minor versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rmatk_runtime.bundle.text_cleaning import Cleaning
from rmatk_runtime.errors import BundleError
from rmatk_runtime.formats import Format
from rmatk_runtime.pictures.preprocess import PreprocessSpec

MANIFEST = "manifest.json"
FORMAT: Literal["rmatk-bundle"] = "rmatk-bundle"
VERSION: Literal[1] = 1

Precision = Literal["fp32", "fp16", "int8"]
Input = Literal["images", "pixels"]
GoldenSource = Literal["photos", "rendered"]

# Bounds of what a manifest may ask for: far beyond any model, and within what a small device survives
LARGEST_MANIFEST = 32 << 20  # bytes
_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Prompts = Annotated[tuple[Annotated[str, Meta(max_length=4096)], ...], Meta(max_length=1000)]
_Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Size in bytes and hex SHA-256 of one file of the bundle."""

    size: Annotated[int, Meta(ge=0, le=1 << 40)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The backbone: its open_clip name and weights tag, the digest of its weights, D of its embeddings."""

    name: str
    pretrained: str | None
    backbone_digest: str
    embed_dim: Annotated[int, Meta(ge=1, le=16384)]


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ONNX image encoder -> ``embeddings`` (N, D) float32, unit length.

    ``input``: ``images`` (N, 3, H, W) float32 normalised, or ``pixels`` (N, H, W, 3) uint8 RGB at network
    size, for servers that have no preprocessing of their own.
    """

    precision: Precision
    file: _Name
    input: Input = "images"
    opset: Annotated[int, Meta(ge=1, le=100)]


class TextEncoder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The adapted text encoder: ``tokens`` (N, L) int64, L <= ``context_length`` -> ``embeddings`` (N, D).

    ``cleaning``: what texts go through before the ``tokenizer`` file.
    """

    file: _Name
    tokenizer: _Name
    cleaning: Cleaning
    context_length: Annotated[int, Meta(ge=1, le=4096)]


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The class matrix' file and what its rows were embedded from.

    ``templates``: prompts with ``{}`` where the class name goes; a row is the mean over them. ``prompts``:
    the whole texts of those labels that were given prompts of their own, or renamed since.
    """

    file: _Name
    templates: _Prompts
    prompts: dict[str, _Prompts] = {}

    def made_from(self, name: str) -> tuple[str, ...]:
        """The texts that the row of ``name`` was embedded from."""
        return self.prompts.get(name) or fill_in(self.templates, name)


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From cosines to an answer: softmax(``logit_scale`` / ``temperature`` * cosine), then the threshold.

    ``reject_threshold``: least probability of the best label that counts as an answer; None never rejects.
    ``labels_changed``: other labels have come or gone since temperature and threshold were fitted, so they
    may no longer suit.
    """

    logit_scale: Annotated[float, Meta(gt=0.0, le=1e6)]
    temperature: Annotated[float, Meta(ge=1e-6, le=1e6)] = 1.0
    reject_threshold: _Share | None = None
    labels_changed: bool = False


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The golden set: what parity runs on where PyTorch is not installed.

    ``source``: ``photos``, the user's own, or ``rendered``, pictures drawn by rmatk that have no true label.
    """

    file: _Name
    images: Annotated[int, Meta(ge=1, le=4096)]
    source: GoldenSource


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far a stage may lie from PyTorch and still pass.

    ``min_cosine``: least cosine between an image's two embeddings. ``max_embedding_difference``: largest
    |difference| of one embedding entry. ``min_agreement``: least share of images with the same top-1 label.
    """

    min_cosine: Annotated[float, Meta(ge=-1.0, le=1.0)]
    max_embedding_difference: Annotated[float, Meta(ge=0.0, le=2.0)]
    min_agreement: _Share


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The chain of digests from training to graphs, and the versions that made it."""

    run_digest: str
    adapter_digest: str
    graph_digests: dict[str, str]
    versions: dict[str, str]
    created: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a device needs to know about a bundle. ``files`` covers every file but this one."""

    format: Literal["rmatk-bundle"] = FORMAT
    version: Literal[1] = VERSION
    minor: int = 0
    model: ModelInfo
    preprocess: PreprocessSpec
    graphs: Annotated[tuple[Graph, ...], Meta(min_length=1, max_length=64)]
    text: TextEncoder
    labels: Labels
    decision: Decision
    golden: Golden | None
    tolerances: dict[Precision, Tolerance]
    provenance: Provenance
    files: Annotated[dict[_Name, FileEntry], Meta(max_length=4096)]

    def graph_digest(self, file: str) -> str:
        """Hex SHA-256 of a graph: of its file, or of file and external data together."""
        parts = [self.files[name].sha256 for name in (file, data_file(file)) if name in self.files]
        return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


_MANIFEST = Format(
    Manifest,
    added={"preprocess.passes": 1, "preprocess.stretch": 1},  # every new field, which needs a default
    decisive=("preprocess", "graphs", "text", "labels", "decision"),
)


def data_file(graph: str) -> str:
    """Where the weights of a graph file lie that is too large for one piece: ``FILE.data`` beside it."""
    return f"{graph}.data"


def fill_in(templates: Sequence[str], name: str) -> tuple[str, ...]:
    """The prompts of a class: each template with its name in the place of ``{}``."""
    return tuple(template.replace("{}", name) for template in templates)


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON.

    Raises:
        BundleError: it was read from a newer minor version, whose fields would be lost.
    """
    try:
        return _MANIFEST.encode(manifest)
    except ValueError as error:
        raise BundleError(
            f"the bundle's manifest cannot be changed: {error}",
            "change it with the newer rmatk that wrote it",
        ) from error


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Parse and validate a manifest read from ``where``.

    Raises:
        BundleError: not JSON, another format or version, unknown, missing or mistyped fields.
    """
    return decode_noting(data, where)[0]


def decode_noting(data: bytes, where: str) -> tuple[Manifest, tuple[str, ...]]:
    """As :func:`decode_manifest`; also the places of newer fields that were left out."""
    try:
        return _MANIFEST.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{where} is not a manifest that this version reads (format {FORMAT} {VERSION}): {error}",
            "copy the bundle again, or export it again with this rmatk: rmatk export RUN -o BUNDLE",
        ) from error
