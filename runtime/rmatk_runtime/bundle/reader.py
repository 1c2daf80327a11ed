"""Opens a bundle; no file is used before all files are present, unchanged and within limits.

This is the one place where files of a bundle are opened. The digests detect accidental changes; an attacker
can make them fit. So the content is checked too, before another library reads it: the numbers in the manifest
(:mod:`~rmatk_runtime.bundle.manifest`), arrays (:mod:`~rmatk_runtime.bundle.npz`), graphs
(:mod:`~rmatk_runtime.bundle.graph_file`) and tokenizers (:mod:`~rmatk_runtime.bundle.tokenizer_file`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rmatk_runtime.bundle import graph_file
from rmatk_runtime.bundle.golden import GoldenSet, load_golden
from rmatk_runtime.bundle.graph_file import Port
from rmatk_runtime.bundle.labels import ClassMatrix, load_classes
from rmatk_runtime.bundle.manifest import (
    LARGEST_MANIFEST,
    MANIFEST,
    Graph,
    Input,
    Manifest,
    data_file,
    decode_noting,
)
from rmatk_runtime.errors import BundleError, command
from rmatk_runtime.files import contained, inside, sha256_file
from rmatk_runtime.trust.keys import load_trusted_keys
from rmatk_runtime.trust.releases import check_release
from rmatk_runtime.trust.signature import Signature, verify_bundle

log = logging.getLogger(__name__)

_AGAIN = "copy the bundle again, or export it again: rmatk export RUN -o BUNDLE"
_EXPORT: dict[Input, str] = {
    "images": "export that precision: rmatk export RUN -o BUNDLE --precision ...",
    "pixels": "export it: rmatk export RUN -o BUNDLE --precision ... --pixels",
}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk; ``signature``: by a key of ``trust``, None where no trust was asked for.

    >>> bundle = rmatk.Bundle.open("bundle")
    >>> bundle.classes().names
    ('blue dot', 'green check', 'red stripe')
    """

    path: Path
    manifest: Manifest
    signature: Signature | None = None
    trust: Path | None = None

    @classmethod
    def open(cls, path: Path | str, trust: Path | None = None) -> Bundle:
        """Read the manifest, verify size and SHA-256 of every file it lists, and look through its graphs.

        Args:
            path: the bundle's folder.
            trust: a public key, or a folder of them: the bundle must be signed by one.

        Raises:
            BundleError: not a bundle, half-written, truncated, altered, beyond limits, or of another version.
            TrustError: it is not signed by a trusted key, or older than one that ran here.
        """
        path = Path(path)
        while True:
            bundle, ignored = cls.read(path, trust)
            manifest = bundle.manifest
            try:
                for name in dict.fromkeys((*manifest.files, *_named_files(manifest))):
                    bundle.verify(name)
                for name in dict.fromkeys((*(g.file for g in manifest.graphs), manifest.text.file)):
                    bundle.check_graph(name)
            except BundleError:
                if read_manifest(path) == manifest:
                    raise
                continue  # its labels were changed meanwhile: the files of the new manifest are there
            if ignored:
                log.warning(
                    "%s is of a newer minor version (1.%d); ignored: %s",
                    path,
                    manifest.minor,
                    ", ".join(ignored),
                )
            return bundle

    @classmethod
    def read(cls, path: Path, trust: Path | None = None) -> tuple[Bundle, tuple[str, ...]]:
        """A bundle by its manifest alone, and the places of newer fields that were left out.

        Raises:
            BundleError, TrustError: as :meth:`open`.
        """
        data, signature = _read_bytes(path), None
        if trust is not None:
            signature = verify_bundle(path, data, load_trusted_keys(trust))
            check_release(signature)
        manifest, ignored = decode_noting(data, str(path / MANIFEST))
        return cls(path, manifest, signature, trust), ignored

    def verify(self, name: str) -> None:
        """Compare a file with its entry in the manifest.

        Raises:
            BundleError: not listed, missing, truncated or altered.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.path}: {name} is used by the manifest but not listed in it", _AGAIN)
        file = self.file(name)
        if not file.is_file():
            raise BundleError(f"{self.path}: {name} is missing", _AGAIN)
        size = file.stat().st_size
        if size > _largest(name):
            raise BundleError(f"{self.path}: {name} is too large: {size} bytes", _AGAIN)
        if size != entry.size:
            raise BundleError(f"{self.path}: {name} has {size} bytes, the manifest says {entry.size}", _AGAIN)
        digest = sha256_file(file)
        if digest != entry.sha256:
            raise BundleError(
                f"{self.path}: {name} was altered: its SHA-256 is {digest[:12]}..., the manifest says "
                f"{entry.sha256[:12]}...",
                _AGAIN,
            )

    def check_graph(self, name: str) -> None:
        """Look through a graph, and compare what it takes and gives with the manifest.

        Raises:
            BundleError: it holds what rmatk does not write, or does not fit the manifest.
        """
        try:
            source, result = graph_file.check_graph(self.file(name))
            for wanted in _inputs(self.manifest, name):
                if source not in wanted:
                    raise ValueError(f"it takes {source}, the manifest says {wanted[0]}")
            expected = Port("embeddings", graph_file.FLOAT, (None, self.manifest.model.embed_dim))
            if result != expected:
                raise ValueError(f"it gives {result}, the manifest says {expected}")
        except (OSError, ValueError) as error:
            raise BundleError(f"{self.path}: {name} cannot be used: {error}", _AGAIN) from error

    def graphs(self, kind: Input = "images") -> tuple[Graph, ...]:
        """The image graphs that take normalised images, or pixels; the first is the default."""
        return tuple(graph for graph in self.manifest.graphs if graph.input == kind)

    def graph(self, precision: str | None = None, kind: Input = "images") -> Graph:
        """The image graph of a precision, or the first one.

        Raises:
            BundleError: the bundle holds no such graph.
        """
        for graph in self.graphs(kind):
            if precision in (None, graph.precision):
                return graph
        held = ", ".join(f"{graph.precision} on {graph.input}" for graph in self.manifest.graphs)
        wanted = f"{precision} graph" if precision else "graph"
        raise BundleError(f"{self.path} holds no {wanted} on {kind}, only {held}", _EXPORT[kind])

    def file(self, name: str) -> Path:
        """The path of a listed file."""
        return inside(self.path, name)

    def classes(self) -> ClassMatrix:
        """The class matrix (C, D). Raises BundleError where it cannot be used."""
        classes = load_classes(self.file(self.manifest.labels.file))
        width = self.manifest.model.embed_dim
        if classes.embeddings.shape[1] != width:
            raise BundleError(
                f"{self.path}: class embeddings are {classes.embeddings.shape[1]} wide, the model's {width}",
                _AGAIN,
            )
        return classes

    def golden(self) -> GoldenSet | None:
        """The golden set, or None where the bundle was exported without one."""
        entry = self.manifest.golden
        if entry is None:
            return None
        golden = load_golden(self.file(entry.file), entry.source)
        shape = (entry.images, self.manifest.model.embed_dim)
        if golden.embeddings.shape != shape:
            raise BundleError(
                f"{self.path}: golden embeddings are {golden.embeddings.shape}, the manifest says {shape}",
                _AGAIN,
            )
        return golden


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at ``path``; its files are not looked at.

    Raises:
        BundleError: not a bundle, half-written, unreadable, or of another version.
    """
    return decode_noting(_read_bytes(path), str(path / MANIFEST))[0]


def _read_bytes(path: Path) -> bytes:
    """The manifest's bytes. Raises BundleError."""
    if not path.exists():
        raise BundleError(f"no such bundle: {path}", "make one: rmatk export RUN -o BUNDLE")
    if (path / "run.json").is_file():
        raise BundleError(
            f"{path} is a training run, not a bundle", command("rmatk", "export", path, "-o", "BUNDLE")
        )
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(f"{path} is not a bundle, or only half of one: it has no {MANIFEST}", _AGAIN)
    try:
        if contained(path, file).stat().st_size > LARGEST_MANIFEST:
            raise BundleError(f"{file} is too large for a manifest", _AGAIN)
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}", _AGAIN) from error


def _named_files(manifest: Manifest) -> list[str]:
    names = [graph.file for graph in manifest.graphs] + [manifest.labels.file]
    names += [manifest.text.file, manifest.text.tokenizer]
    if manifest.golden is not None:
        names.append(manifest.golden.file)
    return names


def _inputs(manifest: Manifest, name: str) -> list[tuple[Port, ...]]:
    """What a graph file may take, for each part that it plays in a bundle."""
    height, width = manifest.preprocess.height, manifest.preprocess.width
    ports = {
        "images": Port("images", graph_file.FLOAT, (None, 3, height, width)),
        "pixels": Port("pixels", graph_file.UINT8, (None, height, width, 3)),
    }
    found: list[tuple[Port, ...]] = [(ports[g.input],) for g in manifest.graphs if g.file == name]
    if name == manifest.text.file:
        lengths = (manifest.text.context_length, None)
        found.append(tuple(Port("tokens", graph_file.INT64, (None, length)) for length in lengths))
    return found


def _largest(name: str) -> int:
    """Bytes that a file of a bundle may have: graphs what protobuf holds, their weights what a disk does."""
    if name.endswith(data_file(".onnx")):
        return 1 << 36
    return 1 << 31 if name.endswith(".onnx") else 1 << 29
