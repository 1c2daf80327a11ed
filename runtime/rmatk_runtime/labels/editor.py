"""Changes a bundle's labels in place, with the bundle's own text encoder: no torch, no new engine.

A label is a name and the prompts that its row of the class matrix is made from, so an edit is a function from
labels to labels: rows whose prompts are already there are kept, the others are embedded. A new matrix gets a
name of its own, then ``manifest.json`` is replaced: whoever reads the bundle, at whatever moment, finds the
old labels or the new ones. The matrix before stays for those that are just reading it, until the next edit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from rmatk_runtime.arrays import Float32
from rmatk_runtime.bundle import Bundle, read_manifest
from rmatk_runtime.bundle.labels import ClassMatrix, encode_classes
from rmatk_runtime.bundle.manifest import MANIFEST, FileEntry, Labels, Manifest, encode_manifest, fill_in
from rmatk_runtime.errors import LabelError
from rmatk_runtime.files import locked, write_atomic
from rmatk_runtime.labels.text_encoder import cut_prompts, mean_embeddings

LONGEST_NAME = 100
_OWN_FILE = re.compile(r"classes(\.[0-9a-f]{16})?\.npz")
_SAME = 1.0 - 1e-6  # cosine of two rows that no picture can tell apart


@dataclass(frozen=True)
class Label:
    """A class name and the texts that its row is embedded from."""

    name: str
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Edited:
    """The labels after an edit, and what the person who made it should know."""

    labels: tuple[Label, ...]
    warnings: tuple[str, ...] = ()


def read_labels(path: Path) -> tuple[Label, ...]:
    """The labels of the bundle at ``path`` as they are now. Raises BundleError."""
    return _labels(_open(path))


def add_label(path: Path, name: str, templates: Sequence[str] = ()) -> Edited:
    """Add a class to the bundle at ``path``; ``templates`` hold ``{}``, none: the bundle's own.

    Raises:
        LabelError: a name that is empty, too long or taken, a prompt without ``{}``.
        BundleError: the bundle cannot be trusted.
        MissingExtraError, BackendError: the text encoder does not run here.
        StorageError: disk full, no permission.
    """

    def change(manifest: Manifest, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        return (*labels, _new_label(manifest, name, templates))

    return _edit(path, change)


def remove_label(path: Path, name: str) -> Edited:
    """Take a class out of the bundle at ``path``.

    Raises:
        LabelError: unknown, or the last one.
        BundleError, StorageError: as for :func:`add_label`.
    """

    def change(manifest: Manifest, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        _find(labels, name)
        if len(labels) == 1:
            raise LabelError(f"{name!r} is the last label; a bundle keeps at least one", "add another first")
        return tuple(label for label in labels if label.name != name)

    return _edit(path, change)


def rename_label(path: Path, old: str, new: str) -> Edited:
    """Call a class something else; it keeps its row, and so recognises what it did before.

    Raises:
        LabelError: ``old`` is unknown, ``new`` is empty, too long or taken.
        BundleError, StorageError: as for :func:`add_label`.
    """

    def change(manifest: Manifest, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        renamed = Label(clean_name(new), _find(labels, old).prompts)
        return tuple(renamed if label.name == old else label for label in labels)

    return _edit(path, change)


def set_labels(path: Path, wanted: Sequence[tuple[str, Sequence[str]]]) -> Edited:
    """Replace all labels by (name, templates) pairs; see :func:`add_label`.

    Raises:
        LabelError, BundleError, MissingExtraError, BackendError, StorageError: as for :func:`add_label`.
    """

    def change(manifest: Manifest, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        return tuple(_new_label(manifest, name, templates) for name, templates in wanted)

    return _edit(path, change)


def keep_threshold(path: Path, threshold: float | None) -> None:
    """Write a reject threshold into the bundle at ``path``: somebody has judged that it suits its labels.

    Raises:
        LabelError: not in [0, 1].
        BundleError, StorageError: as for :func:`add_label`.
    """
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise LabelError(f"the reject threshold must lie between 0 and 1, not {threshold}")
    read_manifest(path)
    with locked(path):
        manifest = read_manifest(path)
        decision = msgspec.structs.replace(
            manifest.decision, reject_threshold=threshold, labels_changed=False
        )
        changed = msgspec.structs.replace(manifest, decision=decision)
        write_atomic(path / MANIFEST, encode_manifest(changed))


def clean_name(name: str) -> str:
    """A class name with single spaces. Raises LabelError where it is empty, too long or unprintable."""
    name = " ".join(name.split())
    if not name:
        raise LabelError("a label's name must not be empty")
    if len(name) > LONGEST_NAME:
        raise LabelError(f"the name {name[:20]!r}... has {len(name)} characters, more than {LONGEST_NAME}")
    if not name.isprintable():
        raise LabelError(f"the name {name!r} holds characters that cannot be printed")
    return name


def _new_label(manifest: Manifest, name: str, templates: Sequence[str]) -> Label:
    for template in templates:
        if "{}" not in template:
            raise LabelError(
                f"the prompt {template!r} of {name!r} has no {{}}", 'write it as "a photo of a {}."'
            )
    name = clean_name(name)
    return Label(name, fill_in(templates or manifest.labels.templates, name))


def _find(labels: Sequence[Label], name: str) -> Label:
    for label in labels:
        if label.name == name:
            return label
    known = ", ".join(label.name for label in labels)
    raise LabelError(f"there is no label {name!r}", f"the labels are: {known}")


def _open(path: Path) -> Bundle:
    """The bundle with its labels verified; nothing else of it is needed to read them."""
    bundle = Bundle(path, read_manifest(path))
    bundle.verify(bundle.manifest.labels.file)
    return bundle


def _labels(bundle: Bundle) -> tuple[Label, ...]:
    return tuple(Label(name, bundle.manifest.labels.made_from(name)) for name in bundle.classes().names)


def _edit(path: Path, change: Callable[[Manifest, tuple[Label, ...]], tuple[Label, ...]]) -> Edited:
    """Apply ``change`` to the labels as they are when it is this edit's turn."""
    read_manifest(path)  # says what is wrong with a path that is no bundle
    with locked(path):
        bundle = _open(path)
        encode_manifest(bundle.manifest)  # one that cannot be written again is refused before the work
        classes, before = bundle.classes(), _labels(bundle)
        after = change(bundle.manifest, before)
        if not after:
            raise LabelError("a bundle keeps at least one label, and none is given")
        _check_distinct(after)
        rows = dict(zip((label.prompts for label in before), classes.embeddings, strict=True))
        new = [label for label in after if label.prompts not in rows]
        if new:
            groups = [label.prompts for label in new]
            rows.update(zip(groups, _embed(bundle, groups), strict=True))
        changed = ClassMatrix(
            tuple(label.name for label in after), np.stack([rows[label.prompts] for label in after])
        )
        same = {label.prompts for label in before} == {label.prompts for label in after}
        _publish(bundle, changed, after, same=same)
        warnings = (*_cut(bundle, new), *_alike(changed))
    return Edited(after, warnings)


def _check_distinct(labels: Sequence[Label]) -> None:
    seen: set[str] = set()
    for label in labels:
        if label.name in seen:
            raise LabelError(f"there are two labels called {label.name!r}", "give one of them another name")
        seen.add(label.name)


def _embed(bundle: Bundle, groups: Sequence[tuple[str, ...]]) -> Float32:
    """G groups of prompts -> their rows (G, D), by the text encoder as it was exported."""
    for name in (bundle.manifest.text.file, bundle.manifest.text.tokenizer):
        bundle.verify(name)
    bundle.check_graph(bundle.manifest.text.file)
    return mean_embeddings(bundle, groups)


def _cut(bundle: Bundle, labels: Sequence[Label]) -> list[str]:
    """A warning for each label with a prompt that is longer than the text encoder reads."""
    length = bundle.manifest.text.context_length
    return [
        f"the prompt of {label.name!r} has more than {length} tokens; the rest does not count"
        for label in labels
        if cut_prompts(bundle, label.prompts)
    ]


def _alike(classes: ClassMatrix) -> list[str]:
    """A warning for each pair of labels between which no picture can decide."""
    cosines = np.triu(classes.embeddings @ classes.embeddings.T, k=1)
    return [
        f"{classes.names[i]!r} and {classes.names[j]!r} mean the same to the model: remove one, or give it "
        f"another prompt"
        for i, j in np.argwhere(cosines > _SAME).tolist()
    ]


def _publish(bundle: Bundle, classes: ClassMatrix, labels: Sequence[Label], *, same: bool) -> None:
    """Write the matrix, then the manifest that names it; ``same``: the rows are those that were there."""
    path, manifest = bundle.path, bundle.manifest
    data = encode_classes(classes)
    digest = hashlib.sha256(data).hexdigest()
    old, new = manifest.labels.file, f"classes.{digest[:16]}.npz"
    write_atomic(path / new, data)
    files = {name: entry for name, entry in manifest.files.items() if name != old}
    files[new] = FileEntry(size=len(data), sha256=digest)
    templates = manifest.labels.templates
    prompts = {
        label.name: label.prompts for label in labels if label.prompts != fill_in(templates, label.name)
    }
    decision = manifest.decision
    fitted = decision.reject_threshold is not None or decision.temperature != 1.0
    changed = msgspec.structs.replace(
        manifest,
        labels=Labels(file=new, templates=templates, prompts=prompts),
        decision=msgspec.structs.replace(
            decision, labels_changed=decision.labels_changed or (fitted and not same)
        ),
        files=files,
    )
    write_atomic(path / MANIFEST, encode_manifest(changed))
    for file in path.iterdir():
        if _OWN_FILE.fullmatch(file.name) and file.name not in (old, new):
            file.unlink(missing_ok=True)
