"""Opens a bundle; no file is used before all files are present and unchanged."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rmatk_runtime.bundle.golden import GoldenSet, load_golden
from rmatk_runtime.bundle.labels import ClassMatrix, load_classes
from rmatk_runtime.bundle.manifest import MANIFEST, Graph, Input, Manifest, decode_noting
from rmatk_runtime.errors import BundleError, command
from rmatk_runtime.files import inside, sha256_file

log = logging.getLogger(__name__)

_AGAIN = "copy the bundle again, or export it again: rmatk export RUN -o BUNDLE"
_EXPORT: dict[Input, str] = {
    "images": "export that precision: rmatk export RUN -o BUNDLE --precision ...",
    "pixels": "export it: rmatk export RUN -o BUNDLE --precision ... --pixels",
}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read the manifest and verify size and SHA-256 of every file it lists.

        Raises:
            BundleError: not a bundle, half-written, truncated, altered, or of another version.
        """
        while True:
            manifest, ignored = _read_manifest(path)
            bundle = cls(path, manifest)
            try:
                for name in dict.fromkeys((*bundle.manifest.files, *_named_files(bundle.manifest))):
                    bundle.verify(name)
            except BundleError:
                if read_manifest(path) == bundle.manifest:
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
        if size != entry.size:
            raise BundleError(f"{self.path}: {name} has {size} bytes, the manifest says {entry.size}", _AGAIN)
        digest = sha256_file(file)
        if digest != entry.sha256:
            raise BundleError(
                f"{self.path}: {name} was altered: its SHA-256 is {digest[:12]}..., the manifest says "
                f"{entry.sha256[:12]}...",
                _AGAIN,
            )

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
        return None if entry is None else load_golden(self.file(entry.file), entry.source)


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at ``path``; its files are not looked at.

    Raises:
        BundleError: not a bundle, half-written, unreadable, or of another version.
    """
    return _read_manifest(path)[0]


def _read_manifest(path: Path) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest, and the places of newer fields that were left out."""
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
        return decode_noting(file.read_bytes(), str(file))
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}", _AGAIN) from error


def _named_files(manifest: Manifest) -> list[str]:
    names = [graph.file for graph in manifest.graphs] + [manifest.labels.file]
    names += [manifest.text.file, manifest.text.tokenizer]
    if manifest.golden is not None:
        names.append(manifest.golden.file)
    return names
